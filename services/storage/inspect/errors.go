package inspect

import "errors"

var (
	// ErrType: a content type that is not accepted (415).
	ErrType = errors.New("the content type is not accepted")
	// ErrContent: the bytes are not what the file says it is (422).
	ErrContent = errors.New("the content cannot be read")
)
