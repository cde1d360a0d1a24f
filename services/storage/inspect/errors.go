package inspect

import "errors"

var (
	// ErrName: a name that no file, folder or object may have (400).
	ErrName = errors.New("the name cannot be used")
	// ErrType: a content type that is not accepted (415).
	ErrType = errors.New("the content type is not accepted")
	// ErrContent: the bytes are not what the file says it is (422).
	ErrContent = errors.New("the content cannot be read")
)
