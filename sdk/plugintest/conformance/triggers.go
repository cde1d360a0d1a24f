package conformance

import (
	"context"
	"encoding/json"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// plainTrigger is what a control tower makes by itself.
const plainTrigger = `{"apiVersion":"v1","protocol":"conformance","spec":{},"metadata":{"source":"service.control-tower.api","spec":{}}}`

// oddTriggers are documents that a control tower may have, each for a reason.
func oddTriggers() []string {
	return []string{
		`{"apiVersion":"v1","protocol":"conformance","spec":{}}`, // metadata may be missing
		`{"apiVersion":"v1","protocol":"conformance","plate":{"rows":2,"columns":3},"spec":[null,{"a":1},null,{},null,null],"metadata":{"source":"service.control-tower.api","spec":[]}}`,
		`{"apiVersion":"v1","protocol":"conformance","plate":null,"spec":null,"metadata":null}`,
		`{"apiVersion":"v1","protocol":"conformance","spec":{},"metadata":{"source":"a source from the future","spec":{"x":[1,2]}},"more":true}`,
		`{}`,
	}
}

// triggerOf is the trigger of a uuid: the document with its uuid.
func triggerOf(document []byte, uuid string) []byte {
	members := map[string]json.RawMessage{}
	quoted, err := json.Marshal(uuid)
	if err == nil {
		err = json.Unmarshal(document, &members)
	}
	if err != nil {
		panic(err) // Run has checked the document, and a text is JSON
	}
	members["uuid"] = quoted
	text, err := json.Marshal(members)
	if err != nil {
		panic(err) // it was JSON a moment ago
	}
	return text
}

// checkTriggers sends triggers of every shape, with any rows.
func checkTriggers(ctx context.Context, s *suite) error {
	if !s.desc.NeedsTrigger {
		return skipf("it asks for no triggers (needs_trigger)")
	}
	return s.onStream(ctx, func(_ *process, st *stream) error {
		for _, document := range oddTriggers() {
			for _, index := range [][]int32{nil, {5, protocol.NoIndex, 1 << 20}} {
				f := s.plain("triggers", 1)[0]
				f.Index, f.Trigger = index, triggerOf([]byte(document), f.UUID)
				if err := st.deliver(ctx, pack([]protocol.Frame{f}, st.limits, 1)...); err != nil {
					return during(err, "with the trigger %s", document)
				}
			}
		}
		s.note = st.summary()
		return nil
	})
}
