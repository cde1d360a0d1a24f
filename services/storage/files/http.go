package files

import (
	"mime/multipart"
	"net/http"
	"slices"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/api"
)

const (
	prefix       = "/api/v1/storage"
	objectsPath  = prefix + "/objects"
	internalPath = "/internal/files"
)

const (
	tagFiles    = "Storage: files"
	tagQuota    = "Storage: quota"
	tagInternal = "Storage: internal files"
	octets      = "application/octet-stream"
)

// uploadForm is the form of an upload.
type uploadForm struct {
	File     multipart.File `formData:"file" required:"true"`
	Path     string         `formData:"path" maxLength:"512" description:"Folder below your own."`
	Category string         `formData:"file_category" enum:"data_source,profile_image,general" default:"data_source"`
}

// internalForm is the form of an internal upload; the file comes last.
type internalForm struct {
	File       multipart.File `formData:"file" required:"true"`
	Purpose    string         `formData:"purpose" enum:"query_result,staging_chunk,model_artifact,temp" default:"temp"`
	ObjectName string         `formData:"object_name" description:"Whole, or below the folder of the purpose; by default one is made."`
	TTL        int            `formData:"ttl_seconds" minimum:"1" maximum:"31536000" description:"Deleted after that; by default never."`
	CountQuota bool           `formData:"count_quota" default:"true"`
	Overwrite  bool           `formData:"overwrite" default:"false"`
	Metadata   string         `formData:"metadata" description:"A JSON object."`
}

type checksumHeaders struct {
	MD5    string `header:"Content-MD5" description:"Of the file, base64. Another file is refused, and nothing stays of it."`
	Digest string `header:"Digest" description:"Of the file: sha-256=… or md5=…, base64."`
	Amz    string `header:"x-amz-checksum-sha256" description:"Of the file, base64."`
}

type writeHeaders struct {
	checksumHeaders
	IfMatch     string `header:"If-Match"`
	IfNoneMatch string `header:"If-None-Match" description:"*: only when there is no object of that name."`
}

type objectParam struct {
	ObjectName string `path:"object_name" description:"With its slashes."`
}

type readParams struct {
	objectParam
	Range       string `header:"Range" description:"One range of bytes. Several: the whole is sent."`
	IfRange     string `header:"If-Range"`
	IfMatch     string `header:"If-Match"`
	IfNoneMatch string `header:"If-None-Match"`
}

type deleteParams struct {
	objectParam
	IfMatch string `header:"If-Match"`
}

type presignParams struct {
	objectParam
	Expires     int    `query:"expires_seconds" minimum:"1" maximum:"604800" default:"3600"`
	Method      string `query:"method" enum:"GET,PUT" default:"GET"`
	ContentType string `query:"content_type" description:"PUT: the only one that the URL takes."`
	Size        int64  `query:"size" minimum:"0" description:"PUT: the only size that the URL takes."`
	Category    string `query:"file_category" enum:"data_source,profile_image,general" description:"PUT: of the new file."`
}

type listParams struct {
	Category  string `query:"file_category" enum:"data_source,profile_image,general"`
	Page      int    `query:"page" minimum:"1" default:"1"`
	PageSize  int    `query:"page_size" minimum:"1" maximum:"100" default:"20"`
	SortBy    string `query:"sort_by" enum:"uploaded_at,file_name,size_bytes" default:"uploaded_at"`
	SortOrder string `query:"sort_order" enum:"asc,desc" default:"desc"`
}

// binary are the answers of a download.
func binary() []api.Answer {
	return []api.Answer{
		{Status: http.StatusOK, Type: octets, Body: "", About: "The bytes, with the content type of the object."},
		{Status: http.StatusPartialContent, Type: octets, Body: "", About: "The range."},
		{Status: http.StatusNotModified, About: "If-None-Match names the newest version."},
	}
}

var (
	readErrors  = []int{http.StatusNotFound, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable, http.StatusGone, http.StatusServiceUnavailable}
	writeErrors = []int{
		http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusServiceUnavailable,
	}
)

// Routes declares everything that this package answers.
func (s *Service) Routes() []api.Route {
	routes := slices.Concat(s.fileRoutes(), s.quotaRoutes(), s.internalRoutes(), s.signedRoutes())
	if s.abilities.Multipart {
		routes = slices.Concat(routes, s.tusRoutes(), s.partsRoutes())
	}
	return routes
}

// Declared are the routes over a backend that can do everything, for the description; their handlers are not to be called.
func Declared() []api.Route {
	return (&Service{abilities: protocol.Abilities{Multipart: true}}).Routes()
}

func (s *Service) fileRoutes() []api.Route {
	return []api.Route{
		{
			Method: http.MethodPost, Path: prefix + "/upload", ID: "uploadFile", Tag: tagFiles,
			Summary: "Upload a file", About: "Streams: a file may be larger than the host's memory. Fields may stand before the file or behind it.",
			Params: checksumHeaders{}, Form: uploadForm{}, Streams: true,
			Answers: []api.Answer{{Status: http.StatusCreated, Body: api.Envelope[Uploaded]{}}}, Errors: writeErrors, Handler: s.upload,
		},
		{
			Method: http.MethodGet, Path: prefix + "/files", ID: "listFiles", Tag: tagFiles,
			Summary: "Your own files, newest first", Params: listParams{},
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[api.Paged[Item]]{}}}, Handler: s.listFiles,
		},
		{
			Method: http.MethodGet, Path: objectsPath + "/{object_name...}/metadata", ID: "getObjectMetadata", Tag: tagFiles,
			Summary: "What is known of an object", Params: objectParam{},
			About:   "To download an object whose own name ends in /metadata, write that slash as %2F.",
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[ObjectMetadata]{}}},
			Errors:  []int{http.StatusForbidden, http.StatusNotFound}, Handler: s.showMetadata,
		},
		{
			Method: http.MethodGet, Path: objectsPath + "/{object_name...}/presigned-url", ID: "presignObject", Tag: tagFiles,
			Summary: "A URL that needs no other credential", Params: presignParams{},
			About: "GET: of an object that is there; HEAD works too. PUT: for an object that may be there or not. What the URL allows is checked when its request starts. " +
				"Counts as a read. A URL that the storage backend answers itself ends with the bytes it was made for: when the object is overwritten, deleted, or moved into another tier.",
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[PresignedURL]{}}},
			Errors:  []int{http.StatusForbidden, http.StatusNotFound, http.StatusServiceUnavailable}, Handler: s.presign,
		},
		{
			Method: http.MethodGet, Path: objectsPath + "/{object_name...}", ID: "downloadObject", Tag: tagFiles,
			Summary: "Download an object", Params: readParams{}, Answers: binary(),
			Errors: slices.Concat(readErrors, []int{http.StatusForbidden}), Handler: s.download,
		},
		{
			Method: http.MethodDelete, Path: objectsPath + "/{object_name...}", ID: "deleteObject", Tag: tagFiles,
			Summary: "Delete an object", About: "Its bytes count no more from this very instant.", Params: deleteParams{},
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Deleted]{}}},
			Errors:  []int{http.StatusForbidden, http.StatusNotFound, http.StatusPreconditionFailed}, Handler: s.deleteObject,
		},
	}
}

func (s *Service) quotaRoutes() []api.Route {
	return []api.Route{
		{
			Method: http.MethodGet, Path: prefix + "/quota", ID: "getQuota", Tag: tagQuota, Summary: "What the organisation may keep",
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Quota]{}}}, Handler: s.showQuota,
		},
		{
			Method: http.MethodGet, Path: prefix + "/usage", ID: "getUsage", Tag: tagQuota, Summary: "What the organisation keeps",
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Usage]{}}}, Handler: s.showUsage,
		},
	}
}

func (s *Service) internalRoutes() []api.Route {
	return []api.Route{
		{
			Method: http.MethodPost, Path: internalPath, ID: "putInternalFile", Tag: tagInternal,
			Summary: "Keep a file for another service", About: "The fields stand before the file.", Params: writeHeaders{}, Form: internalForm{}, Streams: true,
			Answers: []api.Answer{{Status: http.StatusCreated, Body: api.Envelope[InternalFile]{}}},
			Errors:  slices.Concat(writeErrors, []int{http.StatusForbidden, http.StatusPreconditionFailed}), Handler: s.putInternal,
		},
		{
			Method: http.MethodGet, Path: internalPath + "/{object_name...}", ID: "getInternalFile", Tag: tagInternal,
			Summary: "The bytes of any file of the organisation", Params: readParams{}, Answers: binary(), Errors: readErrors, Handler: s.getInternal,
		},
	}
}

// signedRoutes answer without a caller: their URLs are the credential.
func (s *Service) signedRoutes() []api.Route {
	type params struct {
		readParams
		Method    string `query:"method" enum:"GET,PUT"`
		Expires   int64  `query:"expires" description:"Milliseconds since 1970."`
		Signature string `query:"signature"`
	}
	path := prefix + "/signed/{object_name...}"
	denied := []int{http.StatusBadRequest, http.StatusForbidden}
	return []api.Route{
		{
			Method: http.MethodGet, Path: path, ID: "getSigned", Tag: tagFiles, Public: true, AnyOrigin: true,
			Summary: "Download by a signed URL", Params: params{}, Answers: binary(), Errors: slices.Concat(readErrors, denied), Handler: s.getSigned,
		},
		{
			Method: http.MethodPut, Path: path, ID: "putSigned", Tag: tagFiles, Public: true, AnyOrigin: true,
			Summary: "Upload by a signed URL", Params: params{}, Bodies: []string{octets},
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Uploaded]{}}},
			Errors:  slices.Concat(writeErrors, denied, []int{http.StatusNotFound, http.StatusConflict, http.StatusLengthRequired, http.StatusPreconditionFailed, http.StatusUnprocessableEntity}),
			Handler: s.putSigned,
		},
	}
}
