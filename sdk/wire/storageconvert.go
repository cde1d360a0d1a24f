package wire

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	"github.com/rivergate/rivergate/sdk/protocol"
)

var (
	tierOut = map[protocol.Tier]pluginv1.Tier{
		"": pluginv1.Tier_TIER_UNSPECIFIED, protocol.TierHot: pluginv1.Tier_TIER_HOT,
		protocol.TierWarm: pluginv1.Tier_TIER_WARM, protocol.TierCold: pluginv1.Tier_TIER_COLD,
	}
	tierIn = map[pluginv1.Tier]protocol.Tier{
		pluginv1.Tier_TIER_UNSPECIFIED: protocol.TierHot, pluginv1.Tier_TIER_HOT: protocol.TierHot,
		pluginv1.Tier_TIER_WARM: protocol.TierWarm, pluginv1.Tier_TIER_COLD: protocol.TierCold,
	}
)

// putOut checks what is to be sent: a key that protobuf would not carry, or a tier that has no number.
func putOut(p protocol.Put) (*pluginv1.PutHead, error) {
	if err := protocol.CheckKey(p.Key); err != nil {
		return nil, err
	}
	tier, ok := tierOut[p.Tier]
	if !ok {
		return nil, fmt.Errorf("%w: there is no tier %q", protocol.ErrUnsupported, p.Tier)
	}
	return &pluginv1.PutHead{Key: p.Key, Size: max(p.Size, -1), ContentType: text(p.ContentType), Tier: tier, OnlyNew: p.OnlyNew, Sha256: p.SHA256}, nil
}

func putIn(m *pluginv1.PutHead) (protocol.Put, error) {
	if m == nil {
		return protocol.Put{}, fmt.Errorf("%w: nothing says what is to be stored", protocol.ErrMalformed)
	}
	if err := protocol.CheckKey(m.Key); err != nil {
		return protocol.Put{}, err
	}
	tier, ok := tierIn[m.Tier]
	if !ok {
		return protocol.Put{}, fmt.Errorf("%w: there is no tier %d", protocol.ErrUnsupported, m.Tier)
	}
	if n := len(m.Sha256); n != 0 && n != 32 {
		return protocol.Put{}, fmt.Errorf("%w: a SHA-256 of %d bytes", protocol.ErrMalformed, n)
	}
	p := protocol.Put{Key: m.Key, Size: max(m.Size, -1), ContentType: m.ContentType, Tier: tier, OnlyNew: m.OnlyNew}
	if len(m.Sha256) != 0 {
		p.SHA256 = m.Sha256
	}
	return p, nil
}

// nanos is a time as it travels; the zero time is 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func objectOut(o protocol.Object) *pluginv1.StoredObject {
	return &pluginv1.StoredObject{Key: text(o.Key), Size: o.Size, Modified: nanos(o.Modified), Etag: text(o.ETag), Tier: tierOut[o.Tier]}
}

func objectIn(m *pluginv1.StoredObject) (protocol.Object, error) {
	switch {
	case m == nil:
		return protocol.Object{}, fmt.Errorf("%w: an object is missing", protocol.ErrMalformed)
	case protocol.CheckKey(m.Key) != nil:
		return protocol.Object{}, fmt.Errorf("%w: an object with the key %s", protocol.ErrMalformed, quoted(m.Key))
	case m.Size < 0:
		return protocol.Object{}, fmt.Errorf("%w: object %s has %d bytes", protocol.ErrMalformed, quoted(m.Key), m.Size)
	}
	tier, ok := tierIn[m.Tier]
	if !ok {
		return protocol.Object{}, fmt.Errorf("%w: object %s is in tier %d", protocol.ErrMalformed, quoted(m.Key), m.Tier)
	}
	return protocol.Object{Key: m.Key, Size: m.Size, Modified: instant(m.Modified), ETag: m.Etag, Tier: tier}, nil
}

// objectAt is objectIn for an answer about one key.
func objectAt(key string, m *pluginv1.StoredObject) (protocol.Object, error) {
	o, err := objectIn(m)
	if err == nil && o.Key != key {
		return protocol.Object{}, fmt.Errorf("%w: asked for %s, it answers for %s", protocol.ErrMalformed, quoted(key), quoted(o.Key))
	}
	return o, err
}

// stored is objectAt for what was just stored: size bytes, unless -1.
func stored(key string, size int64, m *pluginv1.StoredObject) (protocol.Object, error) {
	o, err := objectAt(key, m)
	if err == nil && size >= 0 && o.Size != size {
		return protocol.Object{}, fmt.Errorf("%w: %s was to have %d bytes, the plugin says it has stored %d", protocol.ErrMalformed, quoted(key), size, o.Size)
	}
	return o, err
}

// listIn checks order and bounds: paging goes on from the last key, so a list out of order would leave objects out for good.
func listIn(prefix, after string, limit int, m *pluginv1.ListResponse) ([]protocol.Object, bool, error) {
	if len(m.Objects) > limit {
		return nil, false, fmt.Errorf("%w: %d objects, where %d are the most", protocol.ErrMalformed, len(m.Objects), limit)
	}
	if m.More && len(m.Objects) == 0 {
		return nil, false, fmt.Errorf("%w: no object, and more to come", protocol.ErrMalformed)
	}
	objects := make([]protocol.Object, len(m.Objects))
	for i, p := range m.Objects {
		o, err := objectIn(p)
		switch {
		case err != nil:
			return nil, false, err
		case !strings.HasPrefix(o.Key, prefix):
			return nil, false, fmt.Errorf("%w: %s in a list of what begins with %s", protocol.ErrMalformed, quoted(o.Key), quoted(prefix))
		case o.Key <= after:
			return nil, false, fmt.Errorf("%w: %s in a list of what comes after %s", protocol.ErrMalformed, quoted(o.Key), quoted(after))
		}
		objects[i], after = o, o.Key
	}
	return objects, m.More, nil
}

func uploadsIn(prefix string, after protocol.Upload, limit int, m *pluginv1.ListUploadsResponse) ([]protocol.Upload, bool, error) {
	if len(m.Uploads) > limit {
		return nil, false, fmt.Errorf("%w: %d uploads, where %d are the most", protocol.ErrMalformed, len(m.Uploads), limit)
	}
	if m.More && len(m.Uploads) == 0 {
		return nil, false, fmt.Errorf("%w: no upload, and more to come", protocol.ErrMalformed)
	}
	uploads := make([]protocol.Upload, len(m.Uploads))
	for i, p := range m.Uploads {
		u := protocol.Upload{Key: p.GetKey(), ID: p.GetId(), Begun: instant(p.GetBegun())}
		switch {
		case protocol.CheckKey(u.Key) != nil || u.ID == "":
			return nil, false, fmt.Errorf("%w: an upload of %s without a proper key or id", protocol.ErrMalformed, quoted(u.Key))
		case !strings.HasPrefix(u.Key, prefix) || u.Key < after.Key || u.Key == after.Key && u.ID == after.ID:
			return nil, false, fmt.Errorf("%w: an upload of %s, which is not in the part of the list that was asked for", protocol.ErrMalformed, quoted(u.Key))
		}
		uploads[i], after = u, u
	}
	return uploads, m.More, nil
}

func partsOut(parts []protocol.Part) []*pluginv1.StoredPart {
	out := make([]*pluginv1.StoredPart, len(parts))
	for i, p := range parts {
		out[i] = partOut(p)
	}
	return out
}

func partOut(p protocol.Part) *pluginv1.StoredPart {
	return &pluginv1.StoredPart{Number: uint32(max(p.Number, 0)), Etag: text(p.ETag), Size: p.Size}
}

func partIn(m *pluginv1.StoredPart) protocol.Part {
	return protocol.Part{Number: int(min(m.GetNumber(), math.MaxInt32)), ETag: m.GetEtag(), Size: m.GetSize()}
}

func abilitiesOut(a protocol.Abilities) *pluginv1.AbilitiesResponse {
	m := &pluginv1.AbilitiesResponse{
		Presign: a.Presign, Multipart: a.Multipart, MinPart: a.MinPart, MaxPart: a.MaxPart, MaxObject: a.MaxObject,
		Encrypts: a.Encrypts, Local: a.Local, Bucket: text(a.Bucket),
	}
	for _, t := range a.Tiers {
		m.Tiers = append(m.Tiers, tierOut[t])
	}
	return m
}

func abilitiesIn(m *pluginv1.AbilitiesResponse) (protocol.Abilities, error) {
	a := protocol.Abilities{
		Presign: m.Presign, Multipart: m.Multipart, MinPart: m.MinPart, MaxPart: m.MaxPart, MaxObject: m.MaxObject,
		Encrypts: m.Encrypts, Local: m.Local, Bucket: m.Bucket,
	}
	for _, t := range m.Tiers {
		tier, ok := tierIn[t]
		if !ok {
			continue // what a later version may have beside
		}
		if !slices.Contains(a.Tiers, tier) {
			a.Tiers = append(a.Tiers, tier)
		}
	}
	if !slices.Contains(a.Tiers, protocol.TierHot) {
		return a, fmt.Errorf("%w: the plugin has no tier hot", protocol.ErrMalformed)
	}
	if a.MinPart < 0 || a.MaxPart < 0 || a.MaxObject < 0 || a.MaxPart > 0 && a.MinPart > a.MaxPart {
		return a, fmt.Errorf("%w: sizes of parts and objects that make no sense", protocol.ErrMalformed)
	}
	return a, nil
}

// quoted shows a key in an error, short.
func quoted(key string) string { return fmt.Sprintf("%q", cut(key, 200)) }
