"""The only conversions between protobuf messages and domain types, by message family.

`x_to_pb` raises an error that names the field when a value does not fit its wire type (a negative
id, a lone surrogate). `x_from_pb` checks *shape*: exactly one of prompt and token ids, known enum
values, valid UTF-8, required parts present; and it puts the documented meaning of "unset" in place.
It does not check *ranges*: a value reaches the services in process as well, so they call
`hola.validate.check_sampling` and `check_speculation` themselves, once, where a request enters
(router use case, drafter, verifier host), with the vocabulary size where they know it.

Errors: requests (job, generate request, open, block) raise InvalidRequest, InvalidSampling or
EmptyPrompt, since the caller must change them; what a peer answers or writes (opened, verdict,
events, infos, bus payloads) raises ProtocolViolation. `details["field"]` is the proto's field name.
"""

from hola.convert.events import (
    error_of,
    event_from_pb,
    event_to_pb,
    failure_from_pb,
    failure_of,
    failure_to_pb,
    summary_from_pb,
    summary_to_pb,
    token_from_pb,
    token_to_pb,
)
from hola.convert.params import (
    chat_message_from_pb,
    chat_message_to_pb,
    job_from_pb,
    job_to_pb,
    request_digest,
    request_from_pb,
    request_to_pb,
    sampling_from_pb,
    sampling_to_pb,
    speculation_from_pb,
    speculation_to_pb,
)
from hola.convert.payloads import (
    decode_entry,
    decode_job,
    decode_record,
    encode_entry,
    encode_job,
    encode_record,
    request_id_of,
)
from hola.convert.plan import plan_from_pb, plan_to_pb, retrieval_from_pb, retrieval_to_pb
from hola.convert.services import (
    drafter_info_from_pb,
    drafter_info_to_pb,
    response_from_pb,
    response_to_pb,
    router_info_from_pb,
    router_info_to_pb,
    verifier_info_from_pb,
    verifier_info_to_pb,
)
from hola.convert.session import (
    block_from_pb,
    block_to_pb,
    check_request_from_pb,
    check_request_to_pb,
    checked_from_pb,
    checked_to_pb,
    open_from_pb,
    open_to_pb,
    opened_from_pb,
    opened_to_pb,
    verdict_from_pb,
    verdict_to_pb,
    verifier_request_from_pb,
    verifier_request_to_pb,
    verifier_response_from_pb,
    verifier_response_to_pb,
)

__all__ = [
    "block_from_pb",
    "block_to_pb",
    "chat_message_from_pb",
    "chat_message_to_pb",
    "check_request_from_pb",
    "check_request_to_pb",
    "checked_from_pb",
    "checked_to_pb",
    "decode_entry",
    "decode_job",
    "decode_record",
    "drafter_info_from_pb",
    "drafter_info_to_pb",
    "encode_entry",
    "encode_job",
    "encode_record",
    "error_of",
    "event_from_pb",
    "event_to_pb",
    "failure_from_pb",
    "failure_of",
    "failure_to_pb",
    "job_from_pb",
    "job_to_pb",
    "open_from_pb",
    "open_to_pb",
    "opened_from_pb",
    "opened_to_pb",
    "plan_from_pb",
    "plan_to_pb",
    "request_digest",
    "request_from_pb",
    "request_id_of",
    "request_to_pb",
    "response_from_pb",
    "response_to_pb",
    "retrieval_from_pb",
    "retrieval_to_pb",
    "router_info_from_pb",
    "router_info_to_pb",
    "sampling_from_pb",
    "sampling_to_pb",
    "speculation_from_pb",
    "speculation_to_pb",
    "summary_from_pb",
    "summary_to_pb",
    "token_from_pb",
    "token_to_pb",
    "verdict_from_pb",
    "verdict_to_pb",
    "verifier_info_from_pb",
    "verifier_info_to_pb",
    "verifier_request_from_pb",
    "verifier_request_to_pb",
    "verifier_response_from_pb",
    "verifier_response_to_pb",
]
