package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/swaggest/jsonschema-go"
	"github.com/swaggest/openapi-go"
	"github.com/swaggest/openapi-go/openapi31"
)

// Info heads the OpenAPI document.
type Info struct {
	Title, Version, About string
}

// contextHeaders are parameters of every route that is not public.
type contextHeaders struct {
	Org       int64 `header:"X-Org-ID" minimum:"1" description:"Organisation. A host on loopback alone takes 1 when it is missing."`
	User      int64 `header:"X-User-ID" minimum:"1"`
	Workspace int64 `header:"X-Workspace-ID" minimum:"1"`
}

type requestHeader struct {
	RequestID string `header:"X-Request-ID" maxLength:"128" description:"Made when it is missing; comes back on every answer."`
}

type keyHeader struct {
	Key string `header:"Idempotency-Key" minLength:"1" maxLength:"255" description:"Same key and body: the first answer. Same key, other body: 422. Still running: 409."`
}

// Document describes the routes in OpenAPI 3.1, as indented JSON.
func Document(info Info, routes []Route) ([]byte, error) {
	r := openapi31.NewReflector()
	r.Spec.Info.WithTitle(info.Title).WithVersion(info.Version).WithDescription(info.About)
	r.Spec.Info.WithLicense(openapi31.License{Name: "Apache-2.0"})
	r.DefaultOptions = append(r.DefaultOptions,
		jsonschema.InterceptDefName(schemaName),
		jsonschema.InterceptNullability(func(p jsonschema.InterceptNullabilityParams) {
			// A nil slice is never sent as null here.
			if p.Type.Kind() == reflect.Slice && p.Schema.HasType(jsonschema.Null) && p.Schema.HasType(jsonschema.Array) {
				*p.Schema.Type = jsonschema.Array.Type()
			}
		}),
	)
	for i := range routes {
		if err := describe(r, &routes[i]); err != nil {
			return nil, fmt.Errorf("describe %s %s: %w", routes[i].Method, routes[i].Path, err)
		}
	}
	return json.MarshalIndent(r.Spec, "", " ")
}

func describe(r *openapi31.Reflector, route *Route) error {
	oc, err := r.NewOperationContext(route.Method, route.OpenAPIPath())
	if err != nil {
		return err
	}
	oc.SetID(route.ID)
	oc.SetTags(route.Tag)
	oc.SetSummary(route.Summary)
	oc.SetDescription(route.About)
	oc.AddReqStructure(requestHeader{})
	if !route.Public {
		oc.AddReqStructure(contextHeaders{})
	}
	if route.Method == http.MethodPost && !route.Public && !route.Unkeyed {
		oc.AddReqStructure(keyHeader{})
	}
	if route.Params != nil {
		oc.AddReqStructure(route.Params)
	}
	if route.Body != nil {
		oc.AddReqStructure(route.Body, openapi.WithContentType(JSON))
	}
	if route.Form != nil {
		oc.AddReqStructure(route.Form, openapi.WithContentType("multipart/form-data"))
	}
	for _, mediaType := range route.Bodies {
		oc.AddReqStructure(nil, openapi.WithContentType(mediaType))
	}
	for _, a := range route.Answers {
		oc.AddRespStructure(a.Body, func(cu *openapi.ContentUnit) {
			cu.HTTPStatus, cu.ContentType, cu.Description = a.Status, a.Type, a.About
		})
	}
	statuses := slices.Concat(route.Errors, []int{http.StatusInternalServerError})
	if !route.Public {
		statuses = append(statuses, http.StatusBadRequest, http.StatusUnauthorized)
	}
	if route.Method == http.MethodPost && !route.Public && !route.Unkeyed {
		statuses = append(statuses, http.StatusConflict, http.StatusUnprocessableEntity)
	}
	slices.Sort(statuses)
	for _, status := range slices.Compact(statuses) {
		oc.AddRespStructure(Failure{}, openapi.WithHTTPStatus(status))
	}
	return r.AddOperation(oc)
}

// schemaName turns a Go type into a short name: Envelope[…/gateway.Accepted] becomes AcceptedEnvelope.
func schemaName(t reflect.Type, fallback string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := t.Name()
	if name == "" {
		return fallback
	}
	outer, inner, generic := strings.Cut(name, "[")
	if !generic {
		return upper(name)
	}
	inner = strings.TrimSuffix(inner, "]")
	prefix := ""
	if i := strings.IndexByte(inner, '['); i >= 0 { // one generic type inside another
		prefix = inner[:i]
		prefix = prefix[strings.LastIndexByte(prefix, '.')+1:]
		inner = strings.TrimSuffix(inner[i+1:], "]")
	}
	inner = inner[strings.LastIndexByte(inner, '.')+1:]
	return upper(inner) + prefix + outer
}

func upper(name string) string { return strings.ToUpper(name[:1]) + name[1:] }
