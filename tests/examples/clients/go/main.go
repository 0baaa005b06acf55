// A client in Go: save a flow, execute it, watch its run, read its steps and what it returned.
//
//	go run . 127.0.0.1:4000
//
// The stubs in stubs/ come from `buf generate`. REST, gRPC and gRPC-Web share one port, so the address is the one
// curl uses.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	flowv1 "greet/stubs/reflux/api/flow/v1"
	runv1 "greet/stubs/reflux/api/run/v1"
)

const flowName = "greet-from-go"

const flowDocument = `{
  "name": "greet-from-go",
  "description": "Greets the person in its input.",
  "spec": {
    "steps": [
      {"id": "greeting", "set": {"text": "Hello {{ input.name }}"}},
      {"id": "done", "return": {"text": "{{ steps.greeting.output.text }}", "steps": 1}}
    ]
  }
}`

const (
	resumes = 10                     // how often a broken stream is asked for again
	pause   = 500 * time.Millisecond // before each
)

// The parts of the API's documents that this program reads.
type (
	flow struct {
		ID      string `json:"id"`
		Name    string `json:"name"`
		Version int    `json:"version"`
	}
	run struct {
		ID     string          `json:"id"`
		State  string          `json:"state"`
		Output json.RawMessage `json:"output"`
	}
	stepRuns struct {
		Steps []struct {
			ID    string `json:"id"`
			State string `json:"state"`
		} `json:"steps"`
	}
)

func main() {
	address := "127.0.0.1:4000"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	// Every call inherits this deadline.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := greet(ctx, address); err != nil {
		fmt.Fprintln(os.Stderr, explain(err))
		os.Exit(1)
	}
}

func greet(ctx context.Context, address string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	flows, runs := flowv1.NewFlowServiceClient(conn), runv1.NewRunServiceClient(conn)

	// With allow_missing the flow is created when none has this name, so the example can run again.
	saved, err := read[flow](flows.ReplaceFlow(ctx, &flowv1.ReplaceFlowRequest{
		FlowId: flowName, Document: body(flowDocument), AllowMissing: true,
	}))
	if err != nil {
		return err
	}
	fmt.Printf("flow %s is at version %d\n", saved.Name, saved.Version)

	// The request_id makes the start safe to repeat: the same one gives the same run.
	start := &runv1.ExecuteFlowRequest{FlowId: saved.ID, Input: body(`{"name": "Ada"}`), RequestId: uuid.NewString()}
	started, err := read[run](runs.ExecuteFlow(ctx, start))
	if err != nil {
		return err
	}
	fmt.Printf("run %s is %s\n", started.ID, started.State)

	if err := watch(ctx, runs, started.ID); err != nil {
		return err
	}

	list, err := read[stepRuns](runs.ListStepRuns(ctx, &runv1.ListStepRunsRequest{RunId: started.ID}))
	if err != nil {
		return err
	}
	for _, step := range list.Steps {
		fmt.Printf("step %s is %s\n", step.ID, step.State)
	}

	// The same start again, which now also waits: the answer is the run, settled, with its output.
	start.Wait = "10s"
	finished, err := read[run](runs.ExecuteFlow(ctx, start))
	if err != nil {
		return err
	}
	fmt.Printf("run %s is %s\n%s\n", finished.ID, finished.State, finished.Output)

	if _, err := runs.ExecuteFlow(ctx, &runv1.ExecuteFlowRequest{FlowId: "no-such-flow"}); err != nil {
		fmt.Println(explain(err))
	}
	return nil
}

// watch prints every event of the run, once and in order, until the one that finishes it ends the stream. A stream
// that breaks is resumed after the last event seen.
func watch(ctx context.Context, runs runv1.RunServiceClient, runID string) error {
	seen, left := int32(0), resumes
	for {
		stream, err := runs.WatchRun(ctx, &runv1.WatchRunRequest{RunId: runID, AfterSeq: seen})
		for err == nil {
			var event *runv1.WatchRunResponse
			if event, err = stream.Recv(); err == nil {
				seen = event.Seq
				fmt.Printf("  %d %s\n", event.Seq, event.Kind)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if status.Code(err) != codes.Unavailable || left == 0 {
			return err
		}
		left--
		time.Sleep(pause)
	}
}

// body wraps a document: documents of people travel as bytes with their content type.
func body(document string) *httpbody.HttpBody {
	return &httpbody.HttpBody{ContentType: "application/json", Data: []byte(document)}
}

// read takes the document out of an answer.
func read[T any](answer *httpbody.HttpBody, err error) (T, error) {
	var document T
	if err != nil {
		return document, err
	}
	return document, json.Unmarshal(answer.Data, &document)
}

// explain gives the code, the reason that a program would branch on, and the message for people.
func explain(err error) string {
	failure := status.Convert(err)
	words := []string{code.Code(failure.Code()).String()}
	for _, detail := range failure.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			words = append(words, info.Reason)
		}
	}
	return strings.Join(words, " ") + ": " + failure.Message()
}
