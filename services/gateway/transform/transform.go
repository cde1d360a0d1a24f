// Package transform changes rows on their way to one pusher: FILTER drops rows, SELECT keeps some of their fields, RENAME
// names them anew. Values stay byte for byte what the client sent, number text included; without SELECT so does everything
// else but the new names.
//
//	SELECT   odMeasured,meta.batch     fields to keep, in this order; a dot goes into an object, \. is a dot in a name
//	RENAME   odMeasured=od,meta.id=key  a field by its path, and its new name
//	FILTER   row.odMeasured > 0.5       an expression, see filter.go
//
// FILTER and RENAME see the names of the client. A Transform is never changed, and serves any number of goroutines.
package transform

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Spec is a transform as the operator gives it.
type Spec struct {
	Select []string
	Rename map[string]string
	Filter string
}

// Problem is something wrong with a Spec. Field is select, rename or filter.
type Problem struct{ Field, Reason string }

// Transform is a Spec made ready. A nil *Transform changes nothing.
type Transform struct {
	root   *node   // nil: rows go as they are
	filter *filter // nil: all rows go
	growth int
}

// New makes a Transform; nil when the Spec is empty. All problems are found at once.
func New(s Spec) (*Transform, []Problem) {
	t := &Transform{}
	var problems []Problem
	if len(s.Select) > 0 || len(s.Rename) > 0 {
		t.root, problems = buildTree(s)
		for _, to := range s.Rename {
			t.growth += len(quote(to))
		}
	}
	if strings.TrimSpace(s.Filter) != "" {
		var reason string
		if t.filter, reason = compileFilter(s.Filter); reason != "" {
			problems = append(problems, Problem{"filter", reason})
		}
	}
	switch {
	case len(problems) > 0:
		return nil, problems
	case t.root == nil && t.filter == nil:
		return nil, nil
	}
	return t, nil
}

// Edits tells whether rows go out other than they came.
func (t *Transform) Edits() bool { return t != nil && t.root != nil }

// Growth is how many bytes a row may grow by, at most.
func (t *Transform) Growth() int {
	if t == nil {
		return 0
	}
	return t.growth
}

// node is what becomes of one member, and of the members of its object.
type node struct {
	name    string
	as      []byte // new name as JSON; nil: as the client wrote it
	whole   bool   // all members are kept, in their order; otherwise those of order, in that order
	order   []*node
	byName  map[string]*node
	place   int            // among the children of its parent
	targets map[string]int // of a whole node: new name of a child → its place
}

// maxNames bounds the children of a node: see edit.
const maxNames = 64

func (n *node) child(name string) *node {
	c := n.byName[name]
	if c != nil {
		return c
	}
	if n.byName == nil {
		n.byName = map[string]*node{}
	}
	c = &node{name: name, place: len(n.order)}
	n.byName[name] = c
	n.order = append(n.order, c)
	return c
}

func buildTree(s Spec) (root *node, problems []Problem) {
	add := func(field, format string, args ...any) {
		problems = append(problems, Problem{field, fmt.Sprintf(format, args...)})
	}
	root = &node{whole: len(s.Select) == 0}
	seen := map[*node]bool{}
	for _, text := range s.Select {
		path, reason := split(text)
		if reason != "" {
			add("select", "%q %s", text, reason)
			continue
		}
		at := root
		for _, name := range path {
			if at != root && at.whole {
				add("select", "%q is kept already, as part of a field before it", text)
				at = nil
				break
			}
			at = at.child(name)
		}
		switch {
		case at == nil:
		case seen[at]:
			add("select", "%q is named twice", text)
		case len(at.order) > 0:
			add("select", "%q is named as a whole and by its parts", text)
		default:
			seen[at], at.whole = true, true
		}
	}
	for _, text := range slices.Sorted(maps.Keys(s.Rename)) {
		path, reason := split(text)
		to := s.Rename[text]
		switch {
		case reason != "":
			add("rename", "%q %s", text, reason)
			continue
		case to == "":
			add("rename", "%q has no new name", text)
			continue
		}
		at := root
		for _, name := range path {
			if !at.whole && at.byName[name] == nil {
				add("rename", "%q is not among the fields that SELECT keeps", text)
				at = nil
				break
			}
			if at = at.child(name); at.whole || seen[at] {
				continue
			}
			at.whole = len(at.order) == 0
		}
		if at != nil {
			at.as = quote(to)
		}
	}
	if len(problems) == 0 {
		check(root, add)
	}
	return root, problems
}

// check finds new names that meet others, and makes the tables of targets.
func check(n *node, add func(field, format string, args ...any)) {
	if len(n.order) > maxNames && n.whole {
		add("rename", "more than %d fields of one object cannot be renamed", maxNames)
		return
	}
	names := map[string]bool{}
	for _, c := range n.order {
		name := c.name
		if c.as != nil {
			_ = json.Unmarshal(c.as, &name) // it was made by Marshal
		}
		if (c.as != nil || !n.whole) && names[name] {
			add("rename", "two fields would be called %q", name)
		}
		if c.as != nil || !n.whole {
			names[name] = true
		}
		if n.whole && c.as != nil {
			if n.targets == nil {
				n.targets = map[string]int{}
			}
			n.targets[name] = c.place
		}
		check(c, add)
	}
}

// split reads a path: names with dots between them, where \. is a dot in a name and \\ a backslash.
func split(text string) (path []string, reason string) {
	var name strings.Builder
	end := func() bool {
		path = append(path, name.String())
		name.Reset()
		return path[len(path)-1] != ""
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && (text[i+1] == '.' || text[i+1] == '\\'):
			i++
			name.WriteByte(text[i])
		case c == '.':
			if !end() {
				return nil, "has an empty name"
			}
		default:
			name.WriteByte(c)
		}
	}
	if !end() {
		return nil, "has an empty name"
	}
	return path, ""
}

func quote(name string) []byte {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(name) // a text is always JSON
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}
