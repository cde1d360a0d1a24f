package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/rivergate/rivergate/sdk"
)

// maxMessage bounds what the server's words may take of a message, bytes.
const maxMessage = 500

// fault is an error of the server in words for a person, with the class that the host decides by, and without secrets.
type fault struct {
	text  string
	class error // nil: none
	cause error
}

func (f *fault) Error() string { return f.text }

func (f *fault) Unwrap() []error {
	if f.class == nil {
		return []error{f.cause}
	}
	return []error{f.class, f.cause}
}

// failure says what was done where, what came of it, and what to set.
func (b *bucket) failure(doing string, err error) error {
	if err == nil {
		return nil
	}
	hint, class := b.judge(err)
	if hint != "" {
		hint = "; " + hint
	}
	return &fault{text: fmt.Sprintf("%s: S3 at %s, bucket %s: %s%s", doing, b.address, b.name, b.words(err), hint), class: class, cause: err}
}

// judge is what to set, and the class of the error; nil: none.
func (b *bucket) judge(err error) (hint string, class error) {
	for _, known := range []error{sdk.ErrNotFound, sdk.ErrRange, sdk.ErrSize, sdk.ErrKey, sdk.ErrUnsupported, sdk.ErrChecksum, context.Canceled} {
		if errors.Is(err, known) {
			return "", known
		}
	}
	var answer minio.ErrorResponse
	code := ""
	if errors.As(err, &answer) {
		code = answer.Code
	}
	var authority x509.UnknownAuthorityError
	var certificate *x509.CertificateInvalidError
	var network net.Error
	switch code {
	case "NoSuchKey", "NotFound", "NoSuchUpload", "InvalidPart", "InvalidPartOrder":
		return "", sdk.ErrNotFound
	case "PreconditionFailed", "ConditionalRequestConflict":
		return "", sdk.ErrPrecondition
	case "InvalidRange":
		return "", sdk.ErrRange
	case "KeyTooLongError", "XMinioInvalidObjectName", "InvalidObjectName", "XMinioParentIsObject", "ObjectParentIsFile", "ExistingObjectIsDirectory", "XMinioObjectExistsAsDirectory", "DirectoryObjectContainsData":
		return "", sdk.ErrKey
	case "BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest":
		return "", sdk.ErrChecksum
	case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientCapacity":
		return "", sdk.ErrFull
	case "InvalidAccessKeyId", "XAdminUserNotFound", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired", "InvalidSecurity", "CredentialsNotSupported":
		b.login.Expire() // what can be fetched again is
		return "check " + b.loginBy, nil
	case "AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden":
		b.login.Expire()
		return "the owner of " + b.loginBy + " needs s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket, s3:AbortMultipartUpload and s3:ListBucketMultipartUploads on the bucket, with ENCRYPTION=kms also kms:GenerateDataKey and kms:Decrypt", nil
	case "NoSuchBucket":
		return "create the bucket, set CREATE_BUCKET=true, or mend BUCKET", nil
	case "AuthorizationHeaderMalformed", "InvalidRegion", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException":
		return "the bucket is in another region: mend REGION, or URL", nil
	case "RequestTimeTooSkewed":
		return "the clock of this machine is wrong", nil
	case "InvalidStorageClass":
		return "mend HOT_CLASS, WARM_CLASS or COLD_CLASS", nil
	case "InvalidObjectState":
		return "the object is in a class that cannot be read at once; choose another COLD_CLASS", nil
	case "NotImplemented":
		return "", sdk.ErrUnsupported
	case "SlowDown", "ServiceUnavailable", "Busy", "TooManyRequests", "RequestLimitExceeded", "XMinioServerNotInitialized", "RequestTimeout":
		return "the server is busy", sdk.ErrUnavailable
	}
	switch {
	case errors.Is(err, errNotEncrypted):
		return "", nil
	case code != "" && answer.StatusCode == http.StatusPreconditionFailed:
		return "", sdk.ErrPrecondition
	case code != "" && answer.StatusCode == http.StatusInsufficientStorage:
		return "", sdk.ErrFull
	case code != "" && (answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode >= http.StatusInternalServerError):
		return "", sdk.ErrUnavailable
	case code != "":
		return "", nil
	case errors.As(err, &authority), errors.As(err, &certificate):
		return "set CA_FILE to the authority of the server's certificate", nil
	case errors.As(err, &network), errors.Is(err, context.DeadlineExceeded):
		return "check URL and the way to it", sdk.ErrUnavailable
	}
	return "", nil
}

// words is what an error says, in one line of bounded length and without secrets.
func (b *bucket) words(err error) string {
	text := strings.ToValidUTF8(strings.Join(strings.Fields(err.Error()), " "), "�")
	for _, secret := range b.hidden {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}
