"""The closed list of error reasons: what a program may branch on.

Each reason is stable for ever and stands in `google.rpc.ErrorInfo.reason` (domain `reflux.dev`), in a run's
`error.reason` and in the documentation. The text beside it is that documentation.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why something was refused or failed. The value is what travels; the comment is for people."""

    # The request itself.
    DOCUMENT_UNREADABLE = "DOCUMENT_UNREADABLE"  # not JSON or YAML, a duplicate key, too deep
    DOCUMENT_TOO_LARGE = "DOCUMENT_TOO_LARGE"  # over the size limit named in the message
    CONTENT_TYPE_UNSUPPORTED = "CONTENT_TYPE_UNSUPPORTED"  # neither application/json nor application/yaml
    ARGUMENT_INVALID = "ARGUMENT_INVALID"  # a parameter has a wrong form or an unknown value
    BODY_TOO_SLOW = "BODY_TOO_SLOW"  # not all of it came within the time the message names; send it again
    PAGE_TOKEN_INVALID = "PAGE_TOKEN_INVALID"  # noqa: S105 - not made by us, or made for another list

    # Flows.
    FLOW_INVALID = "FLOW_INVALID"  # the document has problems; each is a field violation
    FLOW_NOT_FOUND = "FLOW_NOT_FOUND"
    FLOW_VERSION_NOT_FOUND = "FLOW_VERSION_NOT_FOUND"
    FLOW_NAME_TAKEN = "FLOW_NAME_TAKEN"
    ETAG_STALE = "ETAG_STALE"  # the resource changed since the caller read it

    # Runs.
    INPUT_INVALID = "INPUT_INVALID"  # does not fit the schema of the flow or of the node
    RUN_NOT_FOUND = "RUN_NOT_FOUND"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"  # the same request_id or signal_id with another body
    FAULTS_NOT_ALLOWED = "FAULTS_NOT_ALLOWED"  # this stack's setting lets no run have faults
    NOT_ACCEPTING = "NOT_ACCEPTING"  # this orchestrator is draining or has lost its lease; try again

    CONCURRENCY_LIMIT = "CONCURRENCY_LIMIT"  # as many runs of this key go on as its flow allows; try again
    RATE_LIMIT = "RATE_LIMIT"  # runs of this key begin less often than this; RetryInfo says when
    RUN_FINISHED = "RUN_FINISHED"  # nothing can be said to it any more; metadata.state says how it ended
    RUN_NOT_PAUSED = "RUN_NOT_PAUSED"  # there is nothing to resume
    RUN_PAUSED = "RUN_PAUSED"  # somebody has paused it already; metadata says who
    STEP_NOT_FOUND = "STEP_NOT_FOUND"  # the run has no step of this path
    STEP_NOT_WAITING = "STEP_NOT_WAITING"  # the step does not stand where this can be said to it
    SIGNAL_UNKNOWN = "SIGNAL_UNKNOWN"  # no step of the flow waits for a signal of this name
    SIGNAL_TOO_LATE = "SIGNAL_TOO_LATE"  # every step that waits for it is over
    SIGNALS_FULL = "SIGNALS_FULL"  # as many signals are kept there as may be, and no wait takes them
    APPROVAL_ANSWERED = "APPROVAL_ANSWERED"  # somebody else was first; metadata says who, and what
    FORM_INVALID = "FORM_INVALID"  # what was filled in does not fit the form of the approval
    APPROVAL_TOKEN_INVALID = "APPROVAL_TOKEN_INVALID"  # noqa: S105 - not made by us for an approval
    WORD_UNANSWERED = "WORD_UNANSWERED"  # it is kept for the run, whose owner has not answered; ask again

    RUN_CANCELED = "RUN_CANCELED"  # cancelled before it had an output for the sender of its webhook

    # Operating on runs.
    STEP_NEVER_RAN = "STEP_NEVER_RAN"  # nothing can be gone on with from there
    STEP_MOVED = "STEP_MOVED"  # the step would not be reached in the new run; the message says why
    STEP_UNRESOLVED = "STEP_UNRESOLVED"  # nobody knows whether its effect happened, and it would be repeated
    STEP_UNSETTLED = "STEP_UNSETTLED"  # it is still being done
    RUN_NOT_FAILED = "RUN_NOT_FAILED"  # there is nothing to retry
    RUN_HAS_PARENT = "RUN_HAS_PARENT"  # another run waits for it, and is what can be gone on with in bulk
    FILTER_MISSING = "FILTER_MISSING"  # an operation on many runs says which
    COUNT_EXCEEDED = "COUNT_EXCEEDED"  # more runs match than expected; metadata.count says how many

    # Triggers.
    TRIGGER_NOT_FOUND = "TRIGGER_NOT_FOUND"
    TRIGGER_TYPE_UNSUITED = (
        "TRIGGER_TYPE_UNSUITED"  # a trigger of this type cannot be paused, or fired by hand
    )
    WEBHOOK_NOT_FOUND = "WEBHOOK_NOT_FOUND"  # no flow has a webhook at this path, with this method
    WEBHOOK_PATH_TAKEN = "WEBHOOK_PATH_TAKEN"  # another flow has it; metadata names that flow
    SIGNATURE_INVALID = "SIGNATURE_INVALID"  # missing, unreadable, or not made with the trigger's secret
    DELIVERY_REPLAYED = "DELIVERY_REPLAYED"  # its signed time is more than 5 minutes from now
    SECRET_MISSING = "SECRET_MISSING"  # noqa: S105 - the operator has not set the trigger's secret

    # Steps.
    EXPRESSION_FAILED = "EXPRESSION_FAILED"  # a template or condition could not be evaluated
    FAIL_STEP = "FAIL_STEP"  # the flow said so
    FAILED_BY_HAND = "FAILED_BY_HAND"  # a person decided so
    TIMEOUT = "TIMEOUT"  # the step's or the flow's total time was over
    LOOP_LIMIT = "LOOP_LIMIT"  # more iterations than `max`, or more steps than a run may have
    OUTPUT_TOO_LARGE = "OUTPUT_TOO_LARGE"
    OUTPUT_INVALID = "OUTPUT_INVALID"  # the node answered something that is not a JSON document
    CACHE_NOT_PURE = "CACHE_NOT_PURE"  # the step has a cache, and its call may have an effect
    FLOW_DEPTH = "FLOW_DEPTH"  # a run would begin more runs below each other than there may be
    CHILD_CANCELED = "CHILD_CANCELED"  # the run that the step waited for was cancelled
    NODE_NOT_FOUND = "NODE_NOT_FOUND"  # no such node is registered
    NODE_VERSION_NOT_FOUND = "NODE_VERSION_NOT_FOUND"
    NODE_FAULT = "NODE_FAULT"  # the version or its provider is ill
    TARGET_FAULT = "TARGET_FAULT"  # what the input names is ill
    MESH_UNREACHABLE = "MESH_UNREACHABLE"  # Envoy did not take the call
    EFFECT_AMBIGUOUS = "EFFECT_AMBIGUOUS"  # the effect was claimed and no answer came
    EFFECT_WEAKER = "EFFECT_WEAKER"  # the node's class on this input is weaker than the caller counts on
    SUPERSEDED = "SUPERSEDED"  # a takeover gave the attempt up before it claimed its effect
    QUARANTINED = "QUARANTINED"  # five recoveries without progress
    RUN_BROKEN = "RUN_BROKEN"  # the run could not be advanced; the message says why

    # Nodes.
    CLAIM_REFUSED = "CLAIM_REFUSED"  # the attempt may not act; nothing was done
    NODE_FULL = "NODE_FULL"  # at its limit of concurrent calls
    NODE_DRAINING = "NODE_DRAINING"  # about to stop
    ADDRESS_REFUSED = "ADDRESS_REFUSED"  # the SSRF guard refuses the target's address
    TARGET_UNREACHABLE = "TARGET_UNREACHABLE"  # name not resolved, connection refused or broken
    TARGET_TIMEOUT = "TARGET_TIMEOUT"
    TARGET_STATUS = "TARGET_STATUS"  # the target answered with a status the step counts as a failure
    RESPONSE_TOO_LARGE = "RESPONSE_TOO_LARGE"
    TOO_MANY_REDIRECTS = "TOO_MANY_REDIRECTS"
    SCRIPT_FAILED = "SCRIPT_FAILED"  # the script threw
    SCRIPT_LIMIT = "SCRIPT_LIMIT"  # the script used up its time, memory or stack
    PROVIDER_NOT_CONFIGURED = "PROVIDER_NOT_CONFIGURED"  # the operator has not given its key, URL or model
    PROVIDER_REFUSED = "PROVIDER_REFUSED"  # it does not take our key, account or default model
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"  # not reached, overloaded, failed, cut off, or nonsense
    PROVIDER_TIMEOUT = "PROVIDER_TIMEOUT"  # silent for too long, or not done within the attempt's time
    PROVIDER_LIMITED = "PROVIDER_LIMITED"  # our rate limit there is reached
    CREDENTIAL_UNAVAILABLE = (
        "CREDENTIAL_UNAVAILABLE"  # it is not where the node runs, or cannot be used there
    )
    CREDENTIAL_UNFIT = "CREDENTIAL_UNFIT"  # the node takes no such credential, or not for this call
    PROVIDER_DECLINED = "PROVIDER_DECLINED"  # it does not take this input; another time would not help
    DESCRIPTION_CONFLICT = "DESCRIPTION_CONFLICT"  # the version is registered with another description
    LEASE_EXPIRED = "LEASE_EXPIRED"  # register again

    # Routes.
    ROUTE_NOT_FOUND = "ROUTE_NOT_FOUND"
    ROUTE_INVALID = "ROUTE_INVALID"  # each problem is a field violation
    ROUTE_REJECTED = "ROUTE_REJECTED"  # a proxy refused it, in its own words; the former route serves
    CONTRACT_BROKEN = (
        "CONTRACT_BROKEN"  # flows count on what a version that would take their calls does not do
    )
    REVISION_NOT_FOUND = "REVISION_NOT_FOUND"  # the route has no revision of this number
    REVISION_REJECTED = "REVISION_REJECTED"  # a proxy refused this revision: nobody can go back to it
    REVISION_STALE = "REVISION_STALE"

    # The platform.
    SERVICE_UNREACHABLE = "SERVICE_UNREACHABLE"  # a service behind this one did not answer; try again
    CALLER_REFUSED = "CALLER_REFUSED"  # its certificate is not of a role that may call this
    PATH_UNKNOWN = "PATH_UNKNOWN"  # nothing is served there, or not with this HTTP method
    EDGE_REFUSED = "EDGE_REFUSED"  # the edge proxy itself answered; metadata.cause says why, in Envoy's words
    TOO_MANY_WATCHERS = "TOO_MANY_WATCHERS"  # a service has as many watchers as it can; try again
    INTERNAL = "INTERNAL"  # a defect of ours; the log has it under the given id
