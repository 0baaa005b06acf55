"""Gateway: the part of the HTTP API that is not a transcoded gRPC method.

Owns server-sent events of a run (`GET /api/runs/{run_id}:watch`), webhooks (`/hooks/…`), the page behind an
approval's link (`/approve`), the OpenAPI document and the answer to paths nobody knows. Calls the
orchestrator (`RunService.WatchRun`, `TriggerService.DeliverWebhook`) over gRPC. Called by the edge only;
keeps nothing, so any number of gateways may run.
"""
