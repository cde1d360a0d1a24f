package ledger_test

import (
	"context"
	"database/sql"
	"flag"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

// model is what an org should have.
type model struct {
	limit int64
	files map[string]*modelFile
	holds []*modelHold
	made  int64 // files, ever
}

type modelFile struct {
	ledger.File
	order int64
}

type modelHold struct {
	*ledger.Hold
	name          string
	asked, credit int64
	free, timed   bool
}

func (h *modelHold) bytes() int64 {
	if h.free {
		return 0
	}
	return max(0, h.asked-h.credit)
}

func (m *model) used() (n int64) {
	for _, f := range m.files {
		if !f.Free {
			n += f.Size
		}
	}
	return n
}

func (m *model) reserved() (n int64) {
	for _, h := range m.holds {
		n += h.bytes()
	}
	return n
}

func (m *model) fits(more int64) bool { return m.limit < 0 || m.used()+m.reserved()+more <= m.limit }

func (m *model) charge(name string) int64 {
	if f := m.files[name]; f != nil && !f.Free {
		return f.Size
	}
	return 0
}

// TestTheBooksAreExactAfterEachStep does what comes to mind, in any order, and compares with a model.
func TestTheBooksAreExactAfterEachStep(t *testing.T) {
	each(t, func(r *rig) {
		if r.db.Dialect() == database.Postgres { // each step asks it often
			require.NoError(r, flag.Set("rapid.checks", "20"))
		}
		rapid.Check(r.TB.(*testing.T), func(t *rapid.T) {
			ctx := r.Context()
			orgs := map[uint64]*model{1: {limit: limit, files: map[string]*modelFile{}}, 2: {limit: limit, files: map[string]*modelFile{}}}
			// What the iteration before left is gone.
			for org := range orgs {
				require.NoError(t, r.ClearLimit(ctx, org))
				for _, name := range namesOf(t, r, org) {
					_, err := r.Delete(ctx, org, name)
					require.NoError(t, err)
				}
			}
			var quota *ledger.QuotaError
			draw := func(t *rapid.T) (uint64, *model, string) {
				org := rapid.SampledFrom([]uint64{1, 2}).Draw(t, "org")
				return org, orgs[org], rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name")
			}
			size := rapid.OneOf(rapid.Int64Range(0, 20), rapid.Int64Range(0, limit+1), rapid.SampledFrom([]int64{limit, limit / 2}))
			holdOf := func(t *rapid.T) (uint64, *model, int) {
				org, m, _ := draw(t)
				if len(m.holds) == 0 {
					t.Skip("no hold")
				}
				return org, m, rapid.IntRange(0, len(m.holds)-1).Draw(t, "hold")
			}
			t.Repeat(map[string]func(*rapid.T){
				"reserve": func(t *rapid.T) {
					org, m, name := draw(t)
					h := &modelHold{name: name, asked: size.Draw(t, "bytes"), free: rapid.IntRange(0, 9).Draw(t, "free") == 0, timed: rapid.Bool().Draw(t, "timed")}
					o := ledger.Reservation{Org: org, ObjectName: name, Kind: ledger.KindFile, Bytes: h.asked, Free: h.free, Overwrite: rapid.Bool().Draw(t, "overwrite")}
					if h.timed {
						o.Lease = time.Hour
					}
					if o.Overwrite && !h.free {
						h.credit = m.charge(name)
					}
					fits := h.free || h.credit > 0 && h.bytes() == 0 || m.fits(h.bytes())
					var err error
					if h.Hold, err = r.Reserve(ctx, o); !fits {
						require.ErrorAs(t, err, &quota)
						return
					}
					require.NoError(t, err)
					m.holds = append(m.holds, h)
				},
				"grow": func(t *rapid.T) {
					_, m, i := holdOf(t)
					h, n := m.holds[i], size.Draw(t, "bytes")
					larger := *h
					larger.asked += n
					more := larger.bytes() - h.bytes()
					err := h.Grow(ctx, n)
					if more > 0 && !m.fits(more) {
						require.ErrorAs(t, err, &quota)
						return
					}
					require.NoError(t, err)
					h.asked += n
				},
				"commit": func(t *rapid.T) {
					_, m, i := holdOf(t)
					h, mode := m.holds[i], rapid.SampledFrom([]ledger.Mode{ledger.Create, ledger.Replace}).Draw(t, "mode")
					bytes := size.Draw(t, "size")
					if rapid.IntRange(0, 4).Draw(t, "as reserved") > 0 {
						bytes = h.asked
					}
					old := m.files[h.name]
					f, replaced, err := h.Commit(ctx, ledger.File{
						User: 7, Category: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "category"), FileName: h.name, Size: bytes, StoredSize: bytes,
					}, mode)
					cost := bytes
					if h.free {
						cost = 0
					}
					more := cost - m.charge(h.name)
					switch {
					case mode == ledger.Create && old != nil:
						require.ErrorIs(t, err, ledger.ErrExists)
						return
					case more > h.bytes() && !m.fits(more-h.bytes()):
						require.ErrorAs(t, err, &quota)
						return
					}
					require.NoError(t, err)
					require.Equal(t, old != nil, replaced != nil)
					if old != nil {
						require.Equal(t, old.File, *replaced)
						require.Equal(t, old.ID, f.ID)
					}
					m.made++
					m.files[h.name] = &modelFile{f, m.made}
					m.holds = slices.Delete(m.holds, i, i+1)
				},
				"release": func(t *rapid.T) {
					_, m, i := holdOf(t)
					require.NoError(t, m.holds[i].Release(ctx))
					m.holds = slices.Delete(m.holds, i, i+1)
				},
				"delete": func(t *rapid.T) {
					org, m, name := draw(t)
					f, err := r.Delete(ctx, org, name)
					if m.files[name] == nil {
						require.ErrorIs(t, err, ledger.ErrNotFound)
						return
					}
					require.NoError(t, err)
					require.Equal(t, m.files[name].File, f)
					delete(m.files, name)
				},
				"move": func(t *rapid.T) {
					org, m, name := draw(t)
					if m.files[name] == nil {
						t.Skip("no file")
					}
					h, err := r.Reserve(ctx, ledger.Reservation{Org: org, ObjectName: name, Free: true})
					require.NoError(t, err)
					f, err := h.Move(ctx, m.files[name].File, protocol.TierWarm, 1, "")
					require.NoError(t, err)
					m.files[name].File = f
				},
				"limit": func(t *rapid.T) {
					org, m, _ := draw(t)
					m.limit = rapid.OneOf(rapid.Int64Range(0, 2*limit), rapid.Just(int64(ledger.Unlimited))).Draw(t, "limit")
					require.NoError(t, r.SetLimit(ctx, org, m.limit))
				},
				"time passes": func(t *rapid.T) {
					r.pass(61 * time.Minute) // over the leases of timed holds, and of the process
					_, err := r.Sweep(ctx, 1000)
					require.NoError(t, err)
					for _, m := range orgs {
						m.holds = nil
					}
				},
				"": func(t *rapid.T) {
					for org, m := range orgs {
						check(ctx, t, r, org, m)
					}
				},
			})
			for _, m := range orgs {
				for _, h := range m.holds {
					require.NoError(t, h.Release(ctx))
				}
			}
		})
	})
}

func namesOf(t require.TestingT, r *rig, org uint64) (names []string) {
	require.NoError(t, database.Each(r.Context(), r.db.Reader(), func(rows *sql.Rows) error {
		names = append(names, "")
		return rows.Scan(&names[len(names)-1])
	}, "SELECT object_name FROM ledger_files WHERE org = ?", int64(org)))
	return names
}

func check(ctx context.Context, t *rapid.T, r *rig, org uint64, m *model) {
	u, err := r.Usage(ctx, org)
	require.NoError(t, err)
	require.Equal(t, []int64{m.limit, m.used(), m.reserved(), int64(len(m.files))}, []int64{u.Limit, u.Used, u.Reserved, u.Files})
	wrong, err := r.Differences(ctx, org)
	require.NoError(t, err)
	require.Empty(t, wrong)

	var newest []string
	for _, f := range slices.SortedFunc(maps.Values(m.files), func(a, b *modelFile) int { return int(b.order - a.order) }) {
		newest = append(newest, f.ObjectName)
	}
	list, total, err := r.List(ctx, ledger.Query{Org: org, User: 7, Limit: 100})
	require.NoError(t, err)
	require.EqualValues(t, len(newest), total)
	var got []string
	for _, f := range list {
		got = append(got, f.ObjectName)
		require.Equal(t, m.files[f.ObjectName].File, f)
	}
	require.Equal(t, newest, got)
}
