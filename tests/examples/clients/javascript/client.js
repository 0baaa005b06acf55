// A client in JavaScript: save a flow, execute it, watch its run, read its steps and what it returned.
//
//     node client.js 127.0.0.1:4000
//
// Nothing is generated: the descriptor set (all of proto/, its imports included, in one file) is loaded when the
// program starts. REST, gRPC and gRPC-Web share one port, so the address is the one curl uses.

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const DESCRIPTORS = new URL('../../../../services/reflux/api/reflux.binpb', import.meta.url);
const FLOW = {
  name: 'greet-from-javascript',
  description: 'Greets the person in its input.',
  spec: {
    steps: [
      { id: 'greeting', set: { text: 'Hello {{ input.name }}' } },
      { id: 'done', return: { text: '{{ steps.greeting.output.text }}', steps: 1 } },
    ],
  },
};
const MILLISECONDS = 30_000; // every call has a deadline
const RESUMES = 10; // how often a broken stream is asked for again
const PAUSE = 500; // milliseconds before each

const definitions = protoLoader.loadFileDescriptorSetFromBuffer(readFileSync(DESCRIPTORS), { keepCase: true });
const api = grpc.loadPackageDefinition(definitions).reflux.api;

async function main(address) {
  const flows = new api.flow.v1.FlowService(address, grpc.credentials.createInsecure());
  const runs = new api.run.v1.RunService(address, grpc.credentials.createInsecure());

  // With allow_missing the flow is created when none has this name, so the example can run again.
  const flow = read(
    await call(flows, 'ReplaceFlow', { flow_id: FLOW.name, document: toBody(FLOW), allow_missing: true }),
  );
  console.log(`flow ${flow.name} is at version ${flow.version}`);

  // The request_id makes the start safe to repeat: the same one gives the same run.
  const start = { flow_id: flow.id, input: toBody({ name: 'Ada' }), request_id: randomUUID() };
  const run = read(await call(runs, 'ExecuteFlow', start));
  console.log(`run ${run.id} is ${run.state}`);

  for await (const event of watch(runs, run.id)) {
    console.log(`  ${event.seq} ${event.kind}`);
  }

  for (const step of read(await call(runs, 'ListStepRuns', { run_id: run.id })).steps) {
    console.log(`step ${step.id} is ${step.state}`);
  }

  // The same start again, which now also waits: the answer is the run, settled, with its output.
  const finished = read(await call(runs, 'ExecuteFlow', { ...start, wait: '10s' }));
  console.log(`run ${finished.id} is ${finished.state}`);
  console.log(JSON.stringify(finished.output));

  try {
    await call(runs, 'ExecuteFlow', { flow_id: 'no-such-flow' });
  } catch (error) {
    console.log(explain(error));
  }
}

/** One call with one answer, as a promise. */
function call(client, method, request) {
  return promisify(client[method]).call(client, request, deadline());
}

/**
 * Every event of the run, once and in order, until the one that finishes it ends the stream. A stream that breaks
 * is resumed after the last event seen.
 */
async function* watch(runs, runId) {
  let seen = 0;
  for (let left = RESUMES; ; left--) {
    try {
      for await (const event of runs.WatchRun({ run_id: runId, after_seq: seen }, deadline())) {
        seen = event.seq;
        yield event;
      }
      return;
    } catch (error) {
      if (error.code !== grpc.status.UNAVAILABLE || left === 0) throw error;
      await sleep(PAUSE);
    }
  }
}

function deadline() {
  return { deadline: Date.now() + MILLISECONDS };
}

/** Documents of people travel as bytes with their content type. */
function toBody(document) {
  return { content_type: 'application/json', data: Buffer.from(JSON.stringify(document)) };
}

/** The document in an answer. */
function read(body) {
  return JSON.parse(body.data);
}

/** The code, the reason that a program would branch on, and the message for people. */
function explain(error) {
  const words = [grpc.status[error.code]];
  const [status] = error.metadata?.get('grpc-status-details-bin') ?? [];
  for (const detail of status ? definitions['google.rpc.Status'].deserialize(status).details : []) {
    if (detail.type_url.endsWith('/google.rpc.ErrorInfo')) {
      words.push(definitions['google.rpc.ErrorInfo'].deserialize(detail.value).reason);
    }
  }
  return `${words.join(' ')}: ${error.details}`;
}

try {
  await main(process.argv[2] ?? '127.0.0.1:4000');
} catch (error) {
  if (!('code' in error && 'metadata' in error)) throw error; // not an answer of gRPC
  console.error(explain(error));
  process.exitCode = 1;
}
