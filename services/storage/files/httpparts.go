package files

import (
	"net/http"
	"slices"

	"github.com/rivergate/rivergate/services/platform/api"
)

const (
	tagTus   = "Storage: resumable uploads (tus)"
	tagParts = "Storage: uploads in parts"
)

type tusParams struct {
	Version string `header:"Tus-Resumable" required:"true" enum:"1.0.0"`
}

type tusCreateParams struct {
	tusParams
	Length   int64  `header:"Upload-Length" required:"true" minimum:"0"`
	Metadata string `header:"Upload-Metadata" description:"filename, filetype, path, file_category; values as base64."`
}

type tusUploadParams struct {
	UploadID string `path:"upload_id"`
	tusParams
}

type tusPatchParams struct {
	tusUploadParams
	Offset   int64  `header:"Upload-Offset" required:"true" minimum:"0"`
	Checksum string `header:"Upload-Checksum" description:"Of this body: sha1, sha256 or md5, and the sum as base64."`
}

type tusOverrideParams struct {
	tusUploadParams
	Override string `header:"X-HTTP-Method-Override" required:"true" enum:"PATCH,DELETE,HEAD"`
}

// tusRoutes are offered when the backend takes uploads in parts.
func (s *Service) tusRoutes() []api.Route {
	const one = tusPath + "/{upload_id}"
	none := []api.Answer{{Status: http.StatusNoContent}}
	lost := []int{http.StatusNotFound, http.StatusGone, http.StatusPreconditionFailed, http.StatusServiceUnavailable}
	busy := slices.Concat(lost, []int{http.StatusConflict, http.StatusLocked, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity})
	patch := slices.Concat(busy, []int{http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, statusChecksumMismatch})
	return []api.Route{
		{
			Method: http.MethodOptions, Path: tusPath, ID: "tusOptions", Tag: tagTus, Public: true,
			Summary: "What of the protocol works here", Answers: none, Handler: s.tusOptions,
		},
		{
			Method: http.MethodPost, Path: tusPath, ID: "tusCreate", Tag: tagTus, Unkeyed: true, Wrap: withTus,
			Summary: "Begin a resumable upload", About: "All of its bytes are reserved. See https://tus.io/protocols/resumable-upload.",
			Params: tusCreateParams{}, Answers: []api.Answer{{Status: http.StatusCreated, About: "Location is where the bytes go."}},
			Errors: slices.Concat(lost, []int{http.StatusRequestEntityTooLarge}), Handler: s.tusCreate,
		},
		{
			Method: http.MethodHead, Path: one, ID: "tusOffset", Tag: tagTus, Wrap: withTus,
			Summary: "How far the upload is", Params: tusUploadParams{},
			Answers: []api.Answer{{Status: http.StatusOK, About: "Upload-Offset, Upload-Length, Upload-Expires; X-Object-Name and X-Storage-File-ID once it is complete."}},
			Errors:  busy, Handler: s.tusHead,
		},
		{
			Method: http.MethodPatch, Path: one, ID: "tusAppend", Tag: tagTus, Wrap: withTus,
			Summary: "The next bytes", About: "What has come counts, also of a request that is cut off.", Params: tusPatchParams{}, Bodies: []string{tusBody},
			Answers: none, Errors: patch, Handler: s.tusPatch,
		},
		{
			Method: http.MethodDelete, Path: one, ID: "tusTerminate", Tag: tagTus, Wrap: withTus,
			Summary: "Give an upload up", About: "The file of one that is complete stays.", Params: tusUploadParams{}, Answers: none, Errors: busy, Handler: s.tusDelete,
		},
		{
			Method: http.MethodPost, Path: one, ID: "tusOverride", Tag: tagTus, Unkeyed: true, Wrap: withTus,
			Summary: "PATCH, DELETE or HEAD, for clients that cannot send them", Params: tusOverrideParams{}, Bodies: []string{tusBody},
			Answers: slices.Concat(none, []api.Answer{{Status: http.StatusOK}}),
			Errors:  slices.Concat(patch, []int{http.StatusMethodNotAllowed}), Handler: s.tusOverride,
		},
		{
			Method: http.MethodGet, Path: one + "/file", ID: "tusFile", Tag: tagTus,
			Summary: "The file that became of the upload", Params: struct {
				UploadID string `path:"upload_id"`
			}{}, Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Uploaded]{}}},
			Errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusGone}, Handler: s.tusShow,
		},
	}
}

type partsParams struct {
	UploadID string `path:"upload_id"`
}

type partURLParams struct {
	partsParams
	PartNumber int `path:"part_number" minimum:"1" maximum:"10000"`
	Expires    int `query:"expires_seconds" minimum:"1" maximum:"604800" default:"3600"`
}

type signedPartParams struct {
	partsParams
	checksumHeaders
	PartNumber int    `path:"part_number" minimum:"1" maximum:"10000"`
	Signature  string `query:"signature"`
}

// partsRoutes are offered when the backend takes uploads in parts.
func (s *Service) partsRoutes() []api.Route {
	const one = partsPath + "/{upload_id}"
	lost := []int{http.StatusNotFound, http.StatusGone, http.StatusServiceUnavailable}
	return []api.Route{
		{
			Method: http.MethodPost, Path: partsPath, ID: "beginMultipart", Tag: tagParts,
			Summary: "Begin an upload in parts", Body: PartsBegin{},
			Answers: []api.Answer{{Status: http.StatusCreated, Body: api.Envelope[PartsBegun]{}}},
			Errors:  []int{http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusServiceUnavailable}, Handler: s.partsBegin,
		},
		{
			Method: http.MethodGet, Path: one, ID: "getMultipart", Tag: tagParts,
			Summary: "How far the upload is", Params: partsParams{},
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[PartsState]{}}}, Errors: lost, Handler: s.partsShow,
		},
		{
			Method: http.MethodGet, Path: one + "/parts/{part_number}/presigned-url", ID: "presignPart", Tag: tagParts,
			Summary: "The URL of one part", About: "Ask when the part is about to be sent. A part may be sent again.", Params: partURLParams{},
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[PartURL]{}}},
			Errors:  slices.Concat(lost, []int{http.StatusConflict}), Handler: s.partURL,
		},
		{
			Method: http.MethodPut, Path: one + "/parts/{part_number}", ID: "putPart", Tag: tagParts, Public: true, AnyOrigin: true,
			Summary: "One part, by its signed URL", Params: signedPartParams{}, Bodies: []string{octets},
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[PartStored]{}}},
			Errors: []int{
				http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusRequestTimeout, http.StatusLengthRequired, http.StatusUnsupportedMediaType,
				http.StatusServiceUnavailable,
			},
			Handler: s.putPart,
		},
		{
			Method: http.MethodPost, Path: one + "/complete", ID: "completeMultipart", Tag: tagParts,
			Summary: "Make the file", About: "May be repeated until it has answered.", Params: partsParams{}, Body: PartsComplete{},
			Answers: []api.Answer{{Status: http.StatusCreated, Body: api.Envelope[Uploaded]{}}},
			Errors:  slices.Concat(lost, []int{http.StatusLocked, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}), Handler: s.partsComplete,
		},
		{
			Method: http.MethodDelete, Path: one, ID: "abortMultipart", Tag: tagParts,
			Summary: "Give the upload up", Params: partsParams{},
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[UploadID]{}}},
			Errors:  slices.Concat(lost, []int{http.StatusConflict, http.StatusLocked}), Handler: s.partsAbort,
		},
	}
}
