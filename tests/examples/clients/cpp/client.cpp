// A client in C++: save a flow, execute it, watch its run, read its steps and what it returned.
//
//     build/greet 127.0.0.1:4000
//
// CMakeLists.txt has the stubs written. REST, gRPC and gRPC-Web share one port, so the address is the one curl uses.

#include <chrono>
#include <iomanip>
#include <iostream>
#include <memory>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>

#include <grpcpp/grpcpp.h>
#include <nlohmann/json.hpp>

#include "google/api/httpbody.pb.h"
#include "google/rpc/code.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "reflux/api/flow/v1/flow_service.grpc.pb.h"
#include "reflux/api/run/v1/run_service.grpc.pb.h"

namespace flow = reflux::api::flow::v1;
namespace run = reflux::api::run::v1;
using google::api::HttpBody;
using json = nlohmann::json;
using namespace std::chrono_literals;

namespace {

const json kFlow = R"({
  "name": "greet-from-cpp",
  "description": "Greets the person in its input.",
  "spec": {
    "steps": [
      {"id": "greeting", "set": {"text": "Hello {{ input.name }}"}},
      {"id": "done", "return": {"text": "{{ steps.greeting.output.text }}", "steps": 1}}
    ]
  }
})"_json;
constexpr auto kDeadline = 30s;  // of every call
constexpr int kResumes = 10;     // how often a broken stream is asked for again
constexpr auto kPause = 500ms;   // before each

// A call that failed.
struct Failure : std::runtime_error {
  explicit Failure(const grpc::Status& status) : std::runtime_error(status.error_message()), status(status) {}
  grpc::Status status;
};

// Documents of people travel as bytes with their content type.
HttpBody ToBody(const json& document) {
  HttpBody body;
  body.set_content_type("application/json");
  body.set_data(document.dump());
  return body;
}

// One call that answers with a document; throws Failure.
template <typename Stub, typename Request>
json Call(Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, HttpBody*),
          const Request& request) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
  HttpBody answer;
  if (const auto status = (stub.*method)(&context, request, &answer); !status.ok()) throw Failure(status);
  return json::parse(answer.data());
}

// Prints every event of the run, once and in order, until the one that finishes it ends the stream. A stream that
// breaks is resumed after the last event seen.
void Watch(run::RunService::Stub& runs, const std::string& run_id) {
  run::WatchRunRequest request;
  request.set_run_id(run_id);
  for (int left = kResumes;; --left) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kDeadline);
    const auto events = runs.WatchRun(&context, request);
    for (run::WatchRunResponse event; events->Read(&event);) {
      request.set_after_seq(event.seq());
      std::cout << "  " << event.seq() << " " << event.kind() << "\n";
    }
    const auto status = events->Finish();
    if (status.ok()) return;
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE || left == 0) throw Failure(status);
    std::this_thread::sleep_for(kPause);
  }
}

// The code, the reason that a program would branch on, and the message for people.
std::string Explain(const grpc::Status& failure) {
  auto words = google::rpc::Code_Name(static_cast<google::rpc::Code>(failure.error_code()));
  google::rpc::Status status;
  google::rpc::ErrorInfo info;
  if (status.ParseFromString(failure.error_details())) {
    for (const auto& detail : status.details()) {
      if (detail.UnpackTo(&info)) words += " " + info.reason();
    }
  }
  return words + ": " + failure.error_message();
}

// 128 random bits in hex.
std::string RandomId() {
  std::random_device random;
  std::ostringstream id;
  for (int word = 0; word < 4; ++word) id << std::hex << std::setw(8) << std::setfill('0') << random();
  return id.str();
}

// A string in a document, without quotes.
std::string Text(const json& document, const char* field) { return document.at(field).get<std::string>(); }

void Greet(const std::string& address) {
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  flow::FlowService::Stub flows(channel);
  run::RunService::Stub runs(channel);

  // With allow_missing the flow is created when none has this name, so the example can run again.
  flow::ReplaceFlowRequest replace;
  replace.set_flow_id(Text(kFlow, "name"));
  *replace.mutable_document() = ToBody(kFlow);
  replace.set_allow_missing(true);
  const auto saved = Call(flows, &flow::FlowService::Stub::ReplaceFlow, replace);
  std::cout << "flow " << Text(saved, "name") << " is at version " << saved.at("version") << "\n";

  // The request_id makes the start safe to repeat: the same one gives the same run.
  run::ExecuteFlowRequest start;
  start.set_flow_id(Text(saved, "id"));
  *start.mutable_input() = ToBody({{"name", "Ada"}});
  start.set_request_id(RandomId());
  const auto started = Call(runs, &run::RunService::Stub::ExecuteFlow, start);
  const auto run_id = Text(started, "id");
  std::cout << "run " << run_id << " is " << Text(started, "state") << "\n";

  Watch(runs, run_id);

  run::ListStepRunsRequest list;
  list.set_run_id(run_id);
  const auto steps = Call(runs, &run::RunService::Stub::ListStepRuns, list);
  for (const auto& step : steps.at("steps")) {
    std::cout << "step " << Text(step, "id") << " is " << Text(step, "state") << "\n";
  }

  // The same start again, which now also waits: the answer is the run, settled, with its output.
  start.set_wait("10s");
  const auto finished = Call(runs, &run::RunService::Stub::ExecuteFlow, start);
  std::cout << "run " << Text(finished, "id") << " is " << Text(finished, "state") << "\n";
  std::cout << finished.at("output") << "\n";

  run::ExecuteFlowRequest unknown;
  unknown.set_flow_id("no-such-flow");
  try {
    Call(runs, &run::RunService::Stub::ExecuteFlow, unknown);
  } catch (const Failure& failure) {
    std::cout << Explain(failure.status) << "\n";
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    Greet(argc > 1 ? argv[1] : "127.0.0.1:4000");
  } catch (const Failure& failure) {
    std::cerr << Explain(failure.status) << "\n";
    return 1;
  }
}
