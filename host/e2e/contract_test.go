package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

// contract holds a host to its own description: every answer must be of a status that /openapi.json names for the route, and a JSON
// body must be valid against the schema of that status.
type contract struct {
	t        *testing.T
	base     string
	document map[string]any
	compiler *jsonschema.Compiler
	asked    map[string]bool // "METHOD path" of the description
}

const documentURL = "urn:openapi"

func newContract(t *testing.T, base string) *contract {
	t.Helper()
	answer, err := http.Get(base + "/openapi.json")
	require.NoError(t, err)
	defer answer.Body.Close()
	document, err := jsonschema.UnmarshalJSON(answer.Body)
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource(documentURL, document))
	return &contract{t: t, base: base, document: document.(map[string]any), compiler: compiler, asked: map[string]bool{}}
}

// ask is one request.
type ask struct {
	method, route string // as in the description: /api/v1/storage/objects/{object_name}
	path          map[string]string
	query         url.Values
	header        map[string]string
	json          any
	body          []byte
	want          int
}

// answered is what came back. Data is the data of an envelope, Error the error.
type answered struct {
	status int
	header http.Header
	body   []byte
	data   map[string]any
	failed map[string]any
}

func (c *contract) ask(a ask) answered {
	c.t.Helper()
	target := a.route
	for name, value := range a.path {
		at := url.URL{Path: value}
		target = strings.Replace(target, "{"+name+"}", at.EscapedPath(), 1)
	}
	if len(a.query) > 0 {
		target += "?" + a.query.Encode()
	}
	body := a.body
	contentType := ""
	if a.json != nil {
		var err error
		body, err = json.Marshal(a.json)
		require.NoError(c.t, err)
		contentType = "application/json"
	}
	request, err := http.NewRequestWithContext(c.t.Context(), a.method, c.base+target, bytes.NewReader(body))
	require.NoError(c.t, err)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	for name, value := range a.header {
		request.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	require.NoError(c.t, err)
	defer answer.Body.Close()
	got := answered{status: answer.StatusCode, header: answer.Header}
	got.body, err = io.ReadAll(answer.Body)
	require.NoError(c.t, err)
	require.Equal(c.t, a.want, got.status, "%s %s: %s", a.method, target, got.body)
	require.NotEmpty(c.t, got.header.Get("X-Request-ID"))
	c.valid(a, &got)
	return got
}

// valid holds the answer against the description.
func (c *contract) valid(a ask, got *answered) {
	c.t.Helper()
	where := fmt.Sprintf("%s %s", a.method, a.route)
	c.asked[where] = true
	method := a.method
	if method == http.MethodHead {
		return // as GET, without the body
	}
	operation := dig(c.document, "paths", a.route, strings.ToLower(method))
	require.NotNil(c.t, operation, "%s is not described", where)
	status := strconv.Itoa(got.status)
	described := dig(operation, "responses", status)
	require.NotNil(c.t, described, "%s: status %s is not described", where, status)
	mediaType, _, _ := strings.Cut(got.header.Get("Content-Type"), ";")
	if mediaType != "application/json" || dig(described, "content", mediaType) == nil {
		if dig(described, "content") != nil && len(got.body) > 0 && mediaType == "application/json" {
			require.Fail(c.t, "JSON where none is described", "%s %s", where, status)
		}
		return
	}
	pointer := strings.Join([]string{"#/paths", escape(a.route), strings.ToLower(method), "responses", status, "content", escape(mediaType), "schema"}, "/")
	schema, err := c.compiler.Compile(documentURL + pointer)
	require.NoError(c.t, err, where)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(got.body))
	require.NoError(c.t, err, where)
	require.NoError(c.t, schema.Validate(value), "%s %s: %s", where, status, got.body)

	var envelope struct {
		Success *bool
		Data    map[string]any
		Message string
		Error   map[string]any
	}
	require.NoError(c.t, json.Unmarshal(got.body, &envelope))
	require.NotNil(c.t, envelope.Success, "%s: no envelope: %s", where, got.body)
	require.Equal(c.t, got.status < 400, *envelope.Success)
	got.data, got.failed = envelope.Data, envelope.Error
	if got.status >= 400 {
		require.NotEmpty(c.t, got.failed["code"])
		require.Equal(c.t, got.header.Get("X-Request-ID"), got.failed["request_id"])
	} else {
		require.NotEmpty(c.t, envelope.Message)
	}
}

func dig(at any, names ...string) any {
	for _, name := range names {
		m, _ := at.(map[string]any)
		if at = m[name]; at == nil {
			return nil
		}
	}
	return at
}

func escape(token string) string {
	token = strings.NewReplacer("~", "~0", "/", "~1").Replace(token)
	return (&url.URL{Path: token}).EscapedPath()
}

// form makes a multipart body with one file.
func form(t *testing.T, fields map[string]string, name string, content []byte) (body []byte, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for field, value := range fields {
		require.NoError(t, w.WriteField(field, value))
	}
	if name != "" {
		part, err := w.CreateFormFile("file", name)
		require.NoError(t, err)
		_, err = part.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes(), w.FormDataContentType()
}
