import com.google.api.HttpBody;
import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import reflux.api.flow.v1.FlowServiceGrpc;
import reflux.api.flow.v1.FlowServiceOuterClass.ReplaceFlowRequest;
import reflux.api.run.v1.RunServiceGrpc;
import reflux.api.run.v1.RunServiceGrpc.RunServiceBlockingStub;
import reflux.api.run.v1.RunServiceOuterClass.ExecuteFlowRequest;
import reflux.api.run.v1.RunServiceOuterClass.ListStepRunsRequest;
import reflux.api.run.v1.RunServiceOuterClass.WatchRunRequest;

/**
 * A client in Java: save a flow, execute it, watch its run, read its steps and what it returned.
 *
 * <pre>java -cp 'target/classes:target/dependency/*' Client 127.0.0.1:4000</pre>
 *
 * REST, gRPC and gRPC-Web share one port, so the address is the one curl uses.
 */
public final class Client {
  private static final String FLOW = "greet-from-java";
  private static final String DOCUMENT =
      """
      {
        "name": "greet-from-java",
        "description": "Greets the person in its input.",
        "spec": {
          "steps": [
            {"id": "greeting", "set": {"text": "Hello {{ input.name }}"}},
            {"id": "done", "return": {"text": "{{ steps.greeting.output.text }}", "steps": 1}}
          ]
        }
      }
      """;
  private static final int SECONDS = 30; // every call has a deadline
  private static final int RESUMES = 10; // how often a broken stream is asked for again
  private static final int PAUSE = 500; // milliseconds before each
  private static final Gson JSON = new Gson();

  // The parts of the API's documents that this program reads.
  private record Flow(String id, String name, int version) {}

  private record Run(String id, String state, JsonElement output) {}

  private record Step(String id, String state) {}

  private record StepRuns(List<Step> steps) {}

  public static void main(String[] arguments) throws Exception {
    var address = arguments.length > 0 ? arguments[0] : "127.0.0.1:4000";
    var channel = ManagedChannelBuilder.forTarget(address).usePlaintext().build();
    try {
      greet(channel);
    } catch (StatusRuntimeException failure) {
      System.err.println(explain(failure));
      System.exit(1);
    } finally {
      channel.shutdownNow().awaitTermination(SECONDS, TimeUnit.SECONDS);
    }
  }

  private static void greet(ManagedChannel channel) throws Exception {
    var flows = FlowServiceGrpc.newBlockingStub(channel).withDeadlineAfter(SECONDS, TimeUnit.SECONDS);
    var runs = RunServiceGrpc.newBlockingStub(channel).withDeadlineAfter(SECONDS, TimeUnit.SECONDS);

    // With allow_missing the flow is created when none has this name, so the example can run again.
    var replace =
        ReplaceFlowRequest.newBuilder().setFlowId(FLOW).setDocument(toBody(DOCUMENT)).setAllowMissing(true).build();
    var flow = read(flows.replaceFlow(replace), Flow.class);
    System.out.printf("flow %s is at version %d%n", flow.name(), flow.version());

    // The request_id makes the start safe to repeat: the same one gives the same run.
    var start =
        ExecuteFlowRequest.newBuilder()
            .setFlowId(flow.id())
            .setInput(toBody("{\"name\": \"Ada\"}"))
            .setRequestId(UUID.randomUUID().toString());
    var run = read(runs.executeFlow(start.build()), Run.class);
    System.out.printf("run %s is %s%n", run.id(), run.state());

    watch(runs, run.id());

    var list = ListStepRunsRequest.newBuilder().setRunId(run.id()).build();
    for (var step : read(runs.listStepRuns(list), StepRuns.class).steps()) {
      System.out.printf("step %s is %s%n", step.id(), step.state());
    }

    // The same start again, which now also waits: the answer is the run, settled, with its output.
    var finished = read(runs.executeFlow(start.setWait("10s").build()), Run.class);
    System.out.printf("run %s is %s%n%s%n", finished.id(), finished.state(), finished.output());

    try {
      runs.executeFlow(ExecuteFlowRequest.newBuilder().setFlowId("no-such-flow").build());
    } catch (StatusRuntimeException failure) {
      System.out.println(explain(failure));
    }
  }

  /**
   * Prints every event of the run, once and in order, until the one that finishes it ends the stream. A stream that
   * breaks is resumed after the last event seen.
   */
  private static void watch(RunServiceBlockingStub runs, String runId) throws InterruptedException {
    var request = WatchRunRequest.newBuilder().setRunId(runId);
    for (var left = RESUMES; ; left--) {
      try {
        for (var events = runs.watchRun(request.build()); events.hasNext(); ) {
          var event = events.next();
          request.setAfterSeq(event.getSeq());
          System.out.printf("  %d %s%n", event.getSeq(), event.getKind());
        }
        return;
      } catch (StatusRuntimeException failure) {
        if (failure.getStatus().getCode() != Status.Code.UNAVAILABLE || left == 0) {
          throw failure;
        }
        Thread.sleep(PAUSE);
      }
    }
  }

  /** Documents of people travel as bytes with their content type. */
  private static HttpBody toBody(String document) {
    return HttpBody.newBuilder()
        .setContentType("application/json")
        .setData(ByteString.copyFromUtf8(document))
        .build();
  }

  /** The document in an answer. */
  private static <T> T read(HttpBody body, Class<T> type) {
    return JSON.fromJson(body.getData().toStringUtf8(), type);
  }

  /** The code, the reason that a program would branch on, and the message for people. */
  private static String explain(StatusRuntimeException failure) throws InvalidProtocolBufferException {
    var words = new StringBuilder(failure.getStatus().getCode().name());
    for (Any detail : StatusProto.fromThrowable(failure).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        words.append(' ').append(detail.unpack(ErrorInfo.class).getReason());
      }
    }
    return words + ": " + failure.getStatus().getDescription();
  }
}
