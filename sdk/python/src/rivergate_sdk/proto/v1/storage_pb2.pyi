from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIER_UNSPECIFIED: _ClassVar[Tier]
    TIER_HOT: _ClassVar[Tier]
    TIER_WARM: _ClassVar[Tier]
    TIER_COLD: _ClassVar[Tier]

class FaultClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAULT_CLASS_UNSPECIFIED: _ClassVar[FaultClass]
    FAULT_CLASS_NOT_FOUND: _ClassVar[FaultClass]
    FAULT_CLASS_PRECONDITION: _ClassVar[FaultClass]
    FAULT_CLASS_RANGE: _ClassVar[FaultClass]
    FAULT_CLASS_KEY: _ClassVar[FaultClass]
    FAULT_CLASS_CHECKSUM: _ClassVar[FaultClass]
    FAULT_CLASS_FULL: _ClassVar[FaultClass]
    FAULT_CLASS_UNSUPPORTED: _ClassVar[FaultClass]
    FAULT_CLASS_UNAVAILABLE: _ClassVar[FaultClass]
    FAULT_CLASS_SIZE: _ClassVar[FaultClass]
TIER_UNSPECIFIED: Tier
TIER_HOT: Tier
TIER_WARM: Tier
TIER_COLD: Tier
FAULT_CLASS_UNSPECIFIED: FaultClass
FAULT_CLASS_NOT_FOUND: FaultClass
FAULT_CLASS_PRECONDITION: FaultClass
FAULT_CLASS_RANGE: FaultClass
FAULT_CLASS_KEY: FaultClass
FAULT_CLASS_CHECKSUM: FaultClass
FAULT_CLASS_FULL: FaultClass
FAULT_CLASS_UNSUPPORTED: FaultClass
FAULT_CLASS_UNAVAILABLE: FaultClass
FAULT_CLASS_SIZE: FaultClass

class StorageFault(_message.Message):
    __slots__ = ()
    CLASS_FIELD_NUMBER: _ClassVar[int]
    def __init__(self, **kwargs) -> None: ...

class PutHead(_message.Message):
    __slots__ = ("key", "size", "content_type", "tier", "only_new", "sha256")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    ONLY_NEW_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    key: str
    size: int
    content_type: str
    tier: Tier
    only_new: bool
    sha256: bytes
    def __init__(self, key: _Optional[str] = ..., size: _Optional[int] = ..., content_type: _Optional[str] = ..., tier: _Optional[_Union[Tier, str]] = ..., only_new: _Optional[bool] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class PutFrame(_message.Message):
    __slots__ = ("head", "data", "end", "beside")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    BESIDE_FIELD_NUMBER: _ClassVar[int]
    head: PutHead
    data: bytes
    end: BodyEnd
    beside: bool
    def __init__(self, head: _Optional[_Union[PutHead, _Mapping]] = ..., data: _Optional[bytes] = ..., end: _Optional[_Union[BodyEnd, _Mapping]] = ..., beside: _Optional[bool] = ...) -> None: ...

class BodyEnd(_message.Message):
    __slots__ = ("size",)
    SIZE_FIELD_NUMBER: _ClassVar[int]
    size: int
    def __init__(self, size: _Optional[int] = ...) -> None: ...

class StoredObject(_message.Message):
    __slots__ = ("key", "size", "modified", "etag", "tier")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    key: str
    size: int
    modified: int
    etag: str
    tier: Tier
    def __init__(self, key: _Optional[str] = ..., size: _Optional[int] = ..., modified: _Optional[int] = ..., etag: _Optional[str] = ..., tier: _Optional[_Union[Tier, str]] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("key", "length", "takes_file", "takes_beside")
    KEY_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    TAKES_FILE_FIELD_NUMBER: _ClassVar[int]
    TAKES_BESIDE_FIELD_NUMBER: _ClassVar[int]
    key: str
    length: int
    takes_file: bool
    takes_beside: bool
    def __init__(self, key: _Optional[str] = ..., length: _Optional[int] = ..., takes_file: _Optional[bool] = ..., takes_beside: _Optional[bool] = ..., **kwargs) -> None: ...

class GetFrame(_message.Message):
    __slots__ = ("object", "data", "file", "socket")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    object: StoredObject
    data: bytes
    file: OpenFile
    socket: str
    def __init__(self, object: _Optional[_Union[StoredObject, _Mapping]] = ..., data: _Optional[bytes] = ..., file: _Optional[_Union[OpenFile, _Mapping]] = ..., socket: _Optional[str] = ...) -> None: ...

class OpenFile(_message.Message):
    __slots__ = ("pid", "descriptor", "at", "device", "inode")
    PID_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    pid: int
    descriptor: int
    at: int
    device: int
    inode: int
    def __init__(self, pid: _Optional[int] = ..., descriptor: _Optional[int] = ..., at: _Optional[int] = ..., device: _Optional[int] = ..., inode: _Optional[int] = ...) -> None: ...

class StatRequest(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: str
    def __init__(self, key: _Optional[str] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("prefix", "after", "limit")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    after: str
    limit: int
    def __init__(self, prefix: _Optional[str] = ..., after: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("objects", "more")
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    objects: _containers.RepeatedCompositeFieldContainer[StoredObject]
    more: bool
    def __init__(self, objects: _Optional[_Iterable[_Union[StoredObject, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: str
    def __init__(self, key: _Optional[str] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CopyRequest(_message.Message):
    __slots__ = ("to",)
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    to: PutHead
    def __init__(self, to: _Optional[_Union[PutHead, _Mapping]] = ..., **kwargs) -> None: ...

class PresignRequest(_message.Message):
    __slots__ = ("method", "key", "expires_ms", "content_type", "file_name", "size", "upload", "part")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    FILE_NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    method: str
    key: str
    expires_ms: int
    content_type: str
    file_name: str
    size: int
    upload: str
    part: int
    def __init__(self, method: _Optional[str] = ..., key: _Optional[str] = ..., expires_ms: _Optional[int] = ..., content_type: _Optional[str] = ..., file_name: _Optional[str] = ..., size: _Optional[int] = ..., upload: _Optional[str] = ..., part: _Optional[int] = ...) -> None: ...

class PresignResponse(_message.Message):
    __slots__ = ("url", "header", "expires")
    class HeaderEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    URL_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    url: str
    header: _containers.ScalarMap[str, str]
    expires: int
    def __init__(self, url: _Optional[str] = ..., header: _Optional[_Mapping[str, str]] = ..., expires: _Optional[int] = ...) -> None: ...

class BeginUploadRequest(_message.Message):
    __slots__ = ("put",)
    PUT_FIELD_NUMBER: _ClassVar[int]
    put: PutHead
    def __init__(self, put: _Optional[_Union[PutHead, _Mapping]] = ...) -> None: ...

class BeginUploadResponse(_message.Message):
    __slots__ = ("upload",)
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    upload: str
    def __init__(self, upload: _Optional[str] = ...) -> None: ...

class PartHead(_message.Message):
    __slots__ = ("key", "upload", "number", "size")
    KEY_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    key: str
    upload: str
    number: int
    size: int
    def __init__(self, key: _Optional[str] = ..., upload: _Optional[str] = ..., number: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class PartFrame(_message.Message):
    __slots__ = ("head", "data", "end", "beside")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    BESIDE_FIELD_NUMBER: _ClassVar[int]
    head: PartHead
    data: bytes
    end: BodyEnd
    beside: bool
    def __init__(self, head: _Optional[_Union[PartHead, _Mapping]] = ..., data: _Optional[bytes] = ..., end: _Optional[_Union[BodyEnd, _Mapping]] = ..., beside: _Optional[bool] = ...) -> None: ...

class StoredPart(_message.Message):
    __slots__ = ("number", "etag", "size")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    number: int
    etag: str
    size: int
    def __init__(self, number: _Optional[int] = ..., etag: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class CompleteUploadRequest(_message.Message):
    __slots__ = ("put", "upload", "parts")
    PUT_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    put: PutHead
    upload: str
    parts: _containers.RepeatedCompositeFieldContainer[StoredPart]
    def __init__(self, put: _Optional[_Union[PutHead, _Mapping]] = ..., upload: _Optional[str] = ..., parts: _Optional[_Iterable[_Union[StoredPart, _Mapping]]] = ...) -> None: ...

class AbortUploadRequest(_message.Message):
    __slots__ = ("key", "upload")
    KEY_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    key: str
    upload: str
    def __init__(self, key: _Optional[str] = ..., upload: _Optional[str] = ...) -> None: ...

class AbortUploadResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListUploadsRequest(_message.Message):
    __slots__ = ("prefix", "after", "limit")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    after: Upload
    limit: int
    def __init__(self, prefix: _Optional[str] = ..., after: _Optional[_Union[Upload, _Mapping]] = ..., limit: _Optional[int] = ...) -> None: ...

class Upload(_message.Message):
    __slots__ = ("key", "id", "begun")
    KEY_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    BEGUN_FIELD_NUMBER: _ClassVar[int]
    key: str
    id: str
    begun: int
    def __init__(self, key: _Optional[str] = ..., id: _Optional[str] = ..., begun: _Optional[int] = ...) -> None: ...

class ListUploadsResponse(_message.Message):
    __slots__ = ("uploads", "more")
    UPLOADS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    uploads: _containers.RepeatedCompositeFieldContainer[Upload]
    more: bool
    def __init__(self, uploads: _Optional[_Iterable[_Union[Upload, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class AbilitiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AbilitiesResponse(_message.Message):
    __slots__ = ("presign", "multipart", "min_part", "max_part", "max_object", "tiers", "encrypts", "local", "bucket")
    PRESIGN_FIELD_NUMBER: _ClassVar[int]
    MULTIPART_FIELD_NUMBER: _ClassVar[int]
    MIN_PART_FIELD_NUMBER: _ClassVar[int]
    MAX_PART_FIELD_NUMBER: _ClassVar[int]
    MAX_OBJECT_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTS_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    presign: bool
    multipart: bool
    min_part: int
    max_part: int
    max_object: int
    tiers: _containers.RepeatedScalarFieldContainer[Tier]
    encrypts: bool
    local: bool
    bucket: str
    def __init__(self, presign: _Optional[bool] = ..., multipart: _Optional[bool] = ..., min_part: _Optional[int] = ..., max_part: _Optional[int] = ..., max_object: _Optional[int] = ..., tiers: _Optional[_Iterable[_Union[Tier, str]]] = ..., encrypts: _Optional[bool] = ..., local: _Optional[bool] = ..., bucket: _Optional[str] = ...) -> None: ...
