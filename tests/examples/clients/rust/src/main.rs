//! A client in Rust: save a flow, execute it, watch its run, read its steps and what it returned.
//!
//!     cargo run -- 127.0.0.1:4000
//!
//! build.rs writes the stubs. REST, gRPC and gRPC-Web share one port, so the address is the one curl uses.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

use stubs::google::api::HttpBody;
use stubs::google::rpc;
use stubs::reflux::api::flow::v1::ReplaceFlowRequest;
use stubs::reflux::api::flow::v1::flow_service_client::FlowServiceClient;
use stubs::reflux::api::run::v1::run_service_client::RunServiceClient;
use stubs::reflux::api::run::v1::{ExecuteFlowRequest, ListStepRunsRequest, WatchRunRequest};

#[allow(dead_code, clippy::all)]
mod stubs {
    include!(concat!(env!("OUT_DIR"), "/stubs.rs"));
}

const FLOW: &str = "greet-from-rust";
const DEADLINE: Duration = Duration::from_secs(30); // of every call
const RESUMES: u32 = 10; // how often a broken stream is asked for again
const PAUSE: Duration = Duration::from_millis(500); // before each

// The parts of the API's documents that this program reads.

#[derive(Deserialize)]
struct Flow {
    id: String,
    name: String,
    version: i32,
}

#[derive(Deserialize)]
struct Run {
    id: String,
    state: String,
    output: Option<Value>,
}

#[derive(Deserialize)]
struct StepRuns {
    steps: Vec<StepRun>,
}

#[derive(Deserialize)]
struct StepRun {
    id: String,
    state: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:4000".into());
    match greet(&address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.downcast_ref::<Status>() {
                Some(status) => eprintln!("{}", explain(status)),
                None => eprintln!("{error}"),
            }
            ExitCode::FAILURE
        }
    }
}

async fn greet(address: &str) -> Result<(), Box<dyn Error>> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.timeout(DEADLINE).connect_lazy();
    let mut flows = FlowServiceClient::new(channel.clone());
    let mut runs = RunServiceClient::new(channel);

    // With allow_missing the flow is created when none has this name, so the example can run again.
    let document = json!({
        "name": FLOW,
        "description": "Greets the person in its input.",
        "spec": {
            "steps": [
                {"id": "greeting", "set": {"text": "Hello {{ input.name }}"}},
                {"id": "done", "return": {"text": "{{ steps.greeting.output.text }}", "steps": 1}},
            ]
        }
    });
    let replace = ReplaceFlowRequest {
        flow_id: FLOW.into(),
        document: Some(to_body(&document)),
        allow_missing: true,
        ..Default::default()
    };
    let flow: Flow = read(flows.replace_flow(replace).await?.into_inner())?;
    println!("flow {} is at version {}", flow.name, flow.version);

    // The request_id makes the start safe to repeat: the same one gives the same run.
    let mut start = ExecuteFlowRequest {
        flow_id: flow.id,
        input: Some(to_body(&json!({"name": "Ada"}))),
        request_id: Uuid::new_v4().to_string(),
        ..Default::default()
    };
    let run: Run = read(runs.execute_flow(start.clone()).await?.into_inner())?;
    println!("run {} is {}", run.id, run.state);

    watch(&mut runs, &run.id).await?;

    let list = ListStepRunsRequest {
        run_id: run.id,
        ..Default::default()
    };
    let step_runs: StepRuns = read(runs.list_step_runs(list).await?.into_inner())?;
    for step in step_runs.steps {
        println!("step {} is {}", step.id, step.state);
    }

    // The same start again, which now also waits: the answer is the run, settled, with its output.
    start.wait = "10s".into();
    let finished: Run = read(runs.execute_flow(start).await?.into_inner())?;
    println!("run {} is {}", finished.id, finished.state);
    println!("{}", finished.output.unwrap_or_default());

    let unknown = ExecuteFlowRequest { flow_id: "no-such-flow".into(), ..Default::default() };
    if let Err(status) = runs.execute_flow(unknown).await {
        println!("{}", explain(&status));
    }
    Ok(())
}

/// Prints every event of the run, once and in order, until the one that finishes it ends the stream. A stream that
/// breaks is resumed after the last event seen.
async fn watch(runs: &mut RunServiceClient<Channel>, run_id: &str) -> Result<(), Status> {
    let mut seen = 0;
    let mut left = RESUMES;
    while let Err(status) = watch_once(runs, run_id, &mut seen).await {
        if status.code() != Code::Unavailable || left == 0 {
            return Err(status);
        }
        left -= 1;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn watch_once(runs: &mut RunServiceClient<Channel>, run_id: &str, seen: &mut i32) -> Result<(), Status> {
    let mut request = Request::new(WatchRunRequest { run_id: run_id.into(), after_seq: *seen });
    request.set_timeout(DEADLINE);
    let mut events = runs.watch_run(request).await?.into_inner();
    while let Some(event) = events.message().await? {
        *seen = event.seq;
        println!("  {} {}", event.seq, event.kind);
    }
    Ok(())
}

/// Documents of people travel as bytes with their content type.
fn to_body(document: &Value) -> HttpBody {
    HttpBody {
        content_type: "application/json".into(),
        data: document.to_string().into_bytes(),
        ..Default::default()
    }
}

/// The document in an answer.
fn read<T: DeserializeOwned>(body: HttpBody) -> serde_json::Result<T> {
    serde_json::from_slice(&body.data)
}

/// The code, the reason that a program would branch on, and the message for people.
fn explain(status: &Status) -> String {
    let code = rpc::Code::try_from(i32::from(status.code())).unwrap_or(rpc::Code::Unknown);
    let mut words = vec![code.as_str_name().to_string()];
    words.extend(status.get_details_error_info().map(|info| info.reason));
    format!("{}: {}", words.join(" "), status.message())
}
