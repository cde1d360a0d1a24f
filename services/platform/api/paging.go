package api

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
)

const (
	defaultPageSize = 20
	maxPageSize     = 100
	maxLimit        = 1000
)

// Page is a request for one page of a bounded collection.
type Page struct {
	Number int // from 1
	Size   int
}

// Pagination describes one page. Storage counts as total_count, everything else as total_items.
type Pagination struct {
	Page        int    `json:"page" required:"true"`
	PageSize    int    `json:"page_size" required:"true"`
	TotalCount  *int64 `json:"total_count,omitempty"`
	TotalItems  *int64 `json:"total_items,omitempty"`
	TotalPages  int64  `json:"total_pages" required:"true"`
	HasNext     bool   `json:"has_next" required:"true"`
	HasPrevious bool   `json:"has_previous" required:"true"`
}

// ReadPage reads page and page_size.
func ReadPage(c *fiber.Ctx) (Page, error) {
	number, err := IntQuery(c, "page", 1, 1, 1<<31-1)
	if err != nil {
		return Page{}, err
	}
	size, err := IntQuery(c, "page_size", defaultPageSize, 1, maxPageSize)
	return Page{number, size}, err
}

// Offset is the number of items before the page.
func (p Page) Offset() int64 { return int64(p.Number-1) * int64(p.Size) }

// Of describes the page within total items.
func (p Page) Of(total int64) Pagination {
	pages := (total + int64(p.Size) - 1) / int64(p.Size)
	return Pagination{
		Page: p.Number, PageSize: p.Size, TotalItems: &total, TotalPages: pages,
		HasNext: int64(p.Number) < pages, HasPrevious: p.Number > 1,
	}
}

// OfCount is Of as Storage says it: total_count.
func (p Page) OfCount(total int64) Pagination {
	of := p.Of(total)
	of.TotalCount, of.TotalItems = of.TotalItems, nil
	return of
}

// Paged is one page of a bounded collection.
type Paged[T any] struct {
	Items      []T        `json:"items" required:"true" nullable:"false"`
	Pagination Pagination `json:"pagination" required:"true"`
}

// Sort is the order that a client asks for.
type Sort struct {
	By         string
	Descending bool
}

// ReadSort reads sort_by, one of the given, and sort_order (asc, desc). Without them it is absent.
func ReadSort(c *fiber.Ctx, absent Sort, by ...string) (Sort, error) {
	sort := absent
	if text := c.Query("sort_by"); text != "" {
		if !slices.Contains(by, text) {
			return sort, BadRequest("sort_by", "sort_by must be one of %s", strings.Join(by, ", "))
		}
		sort = Sort{By: strings.Clone(text)}
		sort.Descending = sort.By == absent.By && absent.Descending
	}
	switch c.Query("sort_order") {
	case "":
	case "asc":
		sort.Descending = false
	case "desc":
		sort.Descending = true
	default:
		return sort, BadRequest("sort_order", "sort_order must be asc or desc")
	}
	return sort, nil
}

// Cursor is a request for a part of an unbounded collection. After is empty at the start.
type Cursor struct {
	After string
	Limit int
}

// List is a part of an unbounded collection; next_cursor is absent at its end.
type List[T any] struct {
	Items      []T    `json:"items" required:"true" nullable:"false"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// ReadCursor reads cursor and limit (1..1000, 20).
func ReadCursor(c *fiber.Ctx) (Cursor, error) {
	limit, err := IntQuery(c, "limit", defaultPageSize, 1, maxLimit)
	if err != nil {
		return Cursor{}, err
	}
	sent := c.Query("cursor")
	after, err := base64.RawURLEncoding.DecodeString(sent)
	if err != nil {
		return Cursor{}, BadRequest("cursor", "cursor must be the next_cursor of an earlier answer")
	}
	return Cursor{string(after), limit}, nil
}

// SealCursor makes a cursor opaque. ReadCursor opens it.
func SealCursor(next string) string { return base64.RawURLEncoding.EncodeToString([]byte(next)) }

// IntQuery reads an integer query parameter.
func IntQuery(c *fiber.Ctx, name string, absent, lowest, highest int) (int, error) {
	text := c.Query(name)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < lowest || n > highest {
		return 0, BadRequest(name, "%s must be an integer from %d to %d", name, lowest, highest)
	}
	return n, nil
}

// TextQuery reads a query parameter as a string that may be kept.
func TextQuery(c *fiber.Ctx, name string) string { return strings.Clone(c.Query(name)) }
