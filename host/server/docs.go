package server

import (
	"fmt"
	"net/http"

	"github.com/gofiber/fiber/v2"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"github.com/rivergate/rivergate/services/platform/api"
)

const (
	documentPath = "/openapi.json"
	docsPath     = "/docs"
)

// docRoutes serve the description. The page's scripts and styles are part of the binary: it works without the internet.
func (s *Server) docRoutes() []api.Route {
	page := fasthttpadaptor.NewFastHTTPHandler(v5emb.NewHandlerWithConfig(swgui.Config{
		Title: "Rivergate", SwaggerJSON: documentPath, BasePath: docsPath,
		SettingsUI: map[string]string{"tryItOutEnabled": "true", "defaultModelsExpandDepth": "0"},
	}))
	serve := func(c *fiber.Ctx) error {
		page(c.Context())
		if c.Response().StatusCode() == http.StatusNotFound {
			return fiber.ErrNotFound
		}
		return nil
	}
	return []api.Route{
		{
			Method: http.MethodGet, Path: documentPath, ID: "getOpenAPI", Tag: tagHost, Public: true, Summary: "This description, OpenAPI 3.1",
			Answers: []api.Answer{{Status: http.StatusOK, Body: map[string]any{}}},
			Handler: func(c *fiber.Ctx) error {
				text, err := s.document()
				if err != nil {
					return fmt.Errorf("describe the API: %w", err)
				}
				c.Response().Header.SetContentType(api.JSON)
				c.Response().SetBody(text)
				return nil
			},
		},
		{
			Method: http.MethodGet, Path: docsPath, ID: "getDocs", Tag: tagHost, Public: true, Summary: "This description as a page",
			Answers: []api.Answer{{Status: http.StatusOK, Type: "text/html", Body: ""}}, Handler: serve,
		},
		{
			Method: http.MethodGet, Path: docsPath + "/{asset}", ID: "getDocsAsset", Tag: tagHost, Public: true, Summary: "Scripts and styles of the page",
			Params:  assetParam{},
			Answers: []api.Answer{{Status: http.StatusOK, Type: "application/octet-stream", Body: ""}},
			Errors:  []int{http.StatusNotFound}, Handler: serve,
		},
	}
}

type assetParam struct {
	Asset string `path:"asset"`
}
