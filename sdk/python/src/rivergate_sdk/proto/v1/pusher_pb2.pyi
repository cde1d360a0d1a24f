from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OutcomeClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_CLASS_UNSPECIFIED: _ClassVar[OutcomeClass]
    OUTCOME_CLASS_RETRY: _ClassVar[OutcomeClass]
    OUTCOME_CLASS_THROTTLED: _ClassVar[OutcomeClass]
    OUTCOME_CLASS_REJECTED: _ClassVar[OutcomeClass]
    OUTCOME_CLASS_UNAUTHENTICATED: _ClassVar[OutcomeClass]
    OUTCOME_CLASS_DUPLICATE: _ClassVar[OutcomeClass]
    OUTCOME_CLASS_SKIPPED: _ClassVar[OutcomeClass]
OUTCOME_CLASS_UNSPECIFIED: OutcomeClass
OUTCOME_CLASS_RETRY: OutcomeClass
OUTCOME_CLASS_THROTTLED: OutcomeClass
OUTCOME_CLASS_REJECTED: OutcomeClass
OUTCOME_CLASS_UNAUTHENTICATED: OutcomeClass
OUTCOME_CLASS_DUPLICATE: OutcomeClass
OUTCOME_CLASS_SKIPPED: OutcomeClass

class Batch(_message.Message):
    __slots__ = ("seq", "frames", "ordered")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    ORDERED_FIELD_NUMBER: _ClassVar[int]
    seq: int
    frames: _containers.RepeatedCompositeFieldContainer[Frame]
    ordered: bool
    def __init__(self, seq: _Optional[int] = ..., frames: _Optional[_Iterable[_Union[Frame, _Mapping]]] = ..., ordered: _Optional[bool] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("org_id", "user_id", "uuid", "position", "received_at", "data", "ends", "index", "trigger", "request_id", "trace_parent")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    UUID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_PARENT_FIELD_NUMBER: _ClassVar[int]
    org_id: int
    user_id: int
    uuid: str
    position: int
    received_at: int
    data: bytes
    ends: _containers.RepeatedScalarFieldContainer[int]
    index: _containers.RepeatedScalarFieldContainer[int]
    trigger: bytes
    request_id: str
    trace_parent: str
    def __init__(self, org_id: _Optional[int] = ..., user_id: _Optional[int] = ..., uuid: _Optional[str] = ..., position: _Optional[int] = ..., received_at: _Optional[int] = ..., data: _Optional[bytes] = ..., ends: _Optional[_Iterable[int]] = ..., index: _Optional[_Iterable[int]] = ..., trigger: _Optional[bytes] = ..., request_id: _Optional[str] = ..., trace_parent: _Optional[str] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("through_seq", "outcomes", "window")
    THROUGH_SEQ_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    through_seq: int
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    window: int
    def __init__(self, through_seq: _Optional[int] = ..., outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., window: _Optional[int] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("position", "row", "code", "message", "retry_after_ms")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    CLASS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    position: int
    row: int
    code: str
    message: str
    retry_after_ms: int
    def __init__(self, position: _Optional[int] = ..., row: _Optional[int] = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., retry_after_ms: _Optional[int] = ..., **kwargs) -> None: ...
