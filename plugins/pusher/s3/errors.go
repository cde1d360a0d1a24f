package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/rivergate/rivergate/sdk"
)

// maxMessage bounds what the server's words may take of a message, bytes.
const maxMessage = 500

// setUpPause is how long rows wait for an operator to mend the set-up before they are tried again.
const setUpPause = 5 * time.Second

// failure gives what the server said, or the way to it, its class, and says what to set. Nothing is ever the fault of a row.
func (b *bucket) failure(err error) error {
	var answer minio.ErrorResponse
	code := ""
	if errors.As(err, &answer) {
		code = answer.Code
	}
	said := func(what string) error {
		if what != "" {
			what = "; " + what
		}
		return fmt.Errorf("S3 at %s, bucket %s: %s%s", b.address, b.name, b.words(err), what)
	}
	login := "ACCESS_KEY, SECRET_KEY and SESSION_TOKEN"
	if b.files {
		login = "the profile PROFILE of CREDENTIALS_FILE"
	}
	switch code {
	case "InvalidAccessKeyId", "XAdminUserNotFound", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired", "InvalidSecurity", "CredentialsNotSupported":
		b.login.Expire() // a file is read again
		return sdk.BadCredentials(code, said("check "+login))
	case "AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden":
		b.login.Expire()
		return sdk.BadCredentials(code, said("the owner of "+login+" needs s3:PutObject on the bucket, with ENCRYPTION=kms also kms:GenerateDataKey, and as it may be s3:GetObject"))
	case "NoSuchBucket":
		return sdk.RetryIn(setUpPause, code, said("create the bucket, or mend BUCKET"))
	case "AuthorizationHeaderMalformed", "InvalidRegion", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException":
		return sdk.RetryIn(setUpPause, code, said("the bucket is in another region: mend REGION, or URL"))
	case "RequestTimeTooSkewed":
		return sdk.RetryIn(setUpPause, code, said("the clock of this machine is wrong"))
	case "InvalidStorageClass":
		return sdk.RetryIn(setUpPause, code, said("mend STORAGE_CLASS"))
	case "EntityTooLarge":
		return sdk.RetryIn(setUpPause, code, said("the server takes no objects of that size; lower ROLL_SIZE for those to come"))
	case "SlowDown", "ServiceUnavailable", "Busy", "TooManyRequests", "RequestLimitExceeded":
		return &sdk.Error{Class: sdk.Throttled, Code: code, Err: said("")}
	case "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "XAmzQuotaExceeded":
		return &sdk.Error{Class: sdk.Throttled, Code: code, Err: said("the bucket is full: make room, or raise its quota")}
	}
	if answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden { // stores have words of their own for it
		b.login.Expire()
		return sdk.BadCredentials(code, said("check "+login))
	}
	var authority x509.UnknownAuthorityError
	var certificate *tls.CertificateVerificationError
	switch {
	case strings.HasPrefix(code, "KMS."), strings.HasPrefix(code, "XMinioKMS"):
		return sdk.RetryIn(setUpPause, code, said("mend ENCRYPTION or KMS_KEY"))
	case errors.Is(err, errNotEncrypted):
		return sdk.RetryIn(setUpPause, "not_encrypted", said(""))
	case code != "" && answer.StatusCode == http.StatusInsufficientStorage:
		return &sdk.Error{Class: sdk.Throttled, Code: code, Err: said("the server is full")}
	case code != "" && answer.StatusCode == http.StatusTooManyRequests:
		return &sdk.Error{Class: sdk.Throttled, Code: code, Err: said("")}
	case code != "":
		return sdk.RetryIn(0, code, said(""))
	case errors.As(err, &authority), errors.As(err, &certificate):
		return sdk.RetryIn(setUpPause, "tls", said("set CA_FILE to the authority of the server's certificate"))
	case errors.Is(err, context.DeadlineExceeded):
		return sdk.RetryIn(0, "timeout", said("no answer in time: see UPLOAD_TIMEOUT and REQUEST_TIMEOUT"))
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return sdk.BadCredentials("credentials_file", said("check CREDENTIALS_FILE"))
	}
	return sdk.RetryIn(0, "connection", said(""))
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

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

func isPermission(err error) bool {
	return errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS)
}
