package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// soakTime is how long the trouble lasts: a minute with the other tests, what SOAK says (make soak: 15m) otherwise.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SOAK")
	if text == "" {
		return time.Minute
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err, "SOAK is a duration such as 15m")
	return d
}

// soak is one host with ten plugins that get into trouble at random while rows come in.
type soak struct {
	*world
	files, witnesses []string
	done             map[string]int // kind of trouble → times
	measured         []footprint
	latest           footprint
	refused          int // upgrades to a bad binary that were refused, as they should be
}

// The binaries that upgrades and bad upgrades replace.
var soakPlugins = []string{"file", "witness"}

func newSoak(t *testing.T) *soak {
	s := &soak{world: newWorld(t, nil), done: map[string]int{}}
	// A plugin folder of its own: upgrades exchange binaries.
	folder := filepath.Join(s.dir, "plugins")
	require.NoError(t, os.Mkdir(folder, 0o700))
	for _, name := range soakPlugins {
		copyProgram(t, built.Pusher(name), filepath.Join(folder, "rivergate-pusher-"+name), "")
	}
	s.set("RIVERGATE_PLUGIN_DIR", folder, "RIVERGATE_LOG_LEVEL", "warn")
	require.NoError(t, os.MkdirAll(filepath.Join(s.dir, "out"), 0o700))
	for i := range 5 {
		f, w := fmt.Sprintf("file-%d", i), fmt.Sprintf("witness-%d", i)
		s.withFile(f)
		s.set(variables(w)+"ENABLED", "true", variables(w)+"USE", "witness", variables(w)+"PATH", s.out(w),
			variables(w)+"WEDGE_IF", s.wedgeOf(w))
		s.files, s.witnesses = append(s.files, f), append(s.witnesses, w)
	}
	for _, name := range s.names() {
		s.set(variables(name)+"TIMEOUT", "2s", variables(name)+"RETRY_MAX", "1s")
	}
	return s
}

func (s *soak) names() []string { return slices.Concat(s.files, s.witnesses) }

func (s *soak) wedgeOf(name string) string { return filepath.Join(s.dir, "wedge-"+name) }

func (s *soak) binary(plugin string) string {
	return filepath.Join(s.opts.Env["RIVERGATE_PLUGIN_DIR"], "rivergate-pusher-"+plugin)
}

// copyProgram puts a program in the place of another in one step. tail makes other bytes of the same program: what follows
// an ELF file's sections is not looked at.
func copyProgram(t *testing.T, from, to, tail string) {
	t.Helper()
	in, err := os.Open(from)
	require.NoError(t, err)
	defer in.Close()
	out, err := os.OpenFile(to+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o700)
	require.NoError(t, err)
	_, err = io.Copy(out, io.MultiReader(in, strings.NewReader(tail)))
	require.NoError(t, err)
	require.NoError(t, out.Close())
	require.NoError(t, os.Rename(to+".new", to))
}

// trouble does one thing at random to one plugin at random. It returns when what it did is over. The end of ctx cuts it short,
// but what it did and has to undo (a pause, a stop) is undone even then.
func (s *soak) trouble(ctx context.Context, random *rand.Rand) {
	names := s.names()
	victim := names[random.IntN(len(names))]
	kinds := []struct {
		name string
		do   func()
	}{
		{"kill -9", func() { s.signal(ctx, victim, syscall.SIGKILL) }},
		{"kill -9 of three", func() {
			for range 3 {
				s.signal(ctx, names[random.IntN(len(names))], syscall.SIGKILL)
			}
		}},
		{"hang for longer than its deadline", func() { s.wedge(ctx, s.witnesses[random.IntN(len(s.witnesses))], 4*time.Second) }},
		{"hang for a moment", func() { s.wedge(ctx, s.witnesses[random.IntN(len(s.witnesses))], 500*time.Millisecond) }},
		{"stop the process for a moment", func() {
			s.signal(ctx, victim, syscall.SIGSTOP)
			_ = rig.Pause(ctx, 700*time.Millisecond)
			s.signal(s.t.Context(), victim, syscall.SIGCONT)
		}},
		{"stop the process for good", func() { s.signal(ctx, victim, syscall.SIGSTOP) }},
		{"reload", func() { s.reload(ctx, victim) }},
		{"two reloads at once", func() {
			var both sync.WaitGroup
			both.Go(func() { s.reload(ctx, victim) })
			both.Go(func() { s.reload(ctx, names[(slices.Index(names, victim)+1)%len(names)]) })
			both.Wait()
		}},
		{"upgrade", func() { s.upgrade(ctx, victim, random.Uint64()) }},
		{"upgrade to a bad binary", func() { s.badUpgrade(ctx, victim) }},
		{"pause and resume", func() {
			require.NoError(s.t, s.host.PausePusher(s.t.Context(), victim))
			_ = rig.Pause(ctx, 300*time.Millisecond)
			require.NoError(s.t, s.host.ResumePusher(s.t.Context(), victim))
		}},
	}
	k := kinds[random.IntN(len(kinds))]
	k.do()
	s.done[k.name]++
}

// signal reaches a plugin's process when it has one just now.
func (s *soak) signal(ctx context.Context, name string, sig syscall.Signal) {
	if pid, err := s.host.PluginPID(ctx, name); err == nil {
		_ = syscall.Kill(pid, sig) // it may have ended meanwhile
	}
}

func (s *soak) wedge(ctx context.Context, name string, d time.Duration) {
	require.NoError(s.t, os.WriteFile(s.wedgeOf(name), nil, 0o600))
	_ = rig.Pause(ctx, d)
	require.NoError(s.t, os.Remove(s.wedgeOf(name)))
}

// reload exchanges the process for one of the binary that is on disk. It may fail while the plugin is in other trouble:
// then the old one goes on, and the ledger is what counts.
func (s *soak) reload(ctx context.Context, name string) rig.Answer {
	answer, err := s.host.Do(ctx, http.MethodPost, "/api/v1/plugins/"+name+"/reload", nil, nil)
	if err != nil && ctx.Err() == nil {
		s.t.Errorf("reload %s: %v", name, err)
	}
	return answer
}

func pluginOf(instance string) string { return instance[:strings.IndexByte(instance, '-')] }

func (s *soak) upgrade(ctx context.Context, name string, mark uint64) {
	plugin := pluginOf(name)
	copyProgram(s.t, built.Pusher(plugin), s.binary(plugin), strconv.FormatUint(mark, 36))
	s.reload(ctx, name)
}

func (s *soak) badUpgrade(ctx context.Context, name string) {
	plugin := pluginOf(name)
	good := s.binary(plugin) + ".good"
	require.NoError(s.t, os.Link(s.binary(plugin), good))
	require.NoError(s.t, os.WriteFile(s.binary(plugin)+".new", []byte("#!/bin/sh\nexit 7\n"), 0o700))
	require.NoError(s.t, os.Rename(s.binary(plugin)+".new", s.binary(plugin)))
	answer := s.reload(ctx, name)
	require.NoError(s.t, os.Rename(good, s.binary(plugin)))
	if ctx.Err() == nil {
		require.NotEqual(s.t, http.StatusOK, answer.Status, "a binary that is no plugin was taken: %s", answer.Body)
		s.refused++
	}
}

// footprint is what the host uses at one moment.
type footprint struct {
	resident              int64
	goroutines, files     int
	processes, socketsNow int
}

func (s *soak) footprint() footprint {
	s.t.Helper()
	memory, err := rig.ReadMemory(s.host.PID)
	require.NoError(s.t, err)
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.host.PID))
	require.NoError(s.t, err)
	below, err := rig.Descendants(s.host.PID)
	require.NoError(s.t, err)
	answer, err := s.host.Do(s.t.Context(), http.MethodGet, "/metrics", nil, nil)
	require.NoError(s.t, err)
	f := footprint{resident: memory.Resident, files: len(files), processes: len(below), socketsNow: len(s.sockets())}
	for line := range strings.Lines(string(answer.Body)) {
		if n, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			f.goroutines, err = strconv.Atoi(strings.TrimSpace(n))
			require.NoError(s.t, err)
		}
	}
	require.Positive(s.t, f.goroutines)
	return f
}

// settled waits until all ten run and have caught up, and nothing is left of any other process, and returns the footprint. A
// process that was stopped for good may still be found out and replaced meanwhile; a leak stays, and like says what is none.
func (s *soak) settled(within time.Duration, like func(footprint) bool) (now footprint) {
	s.t.Helper()
	s.caughtUp(within, s.names()...)
	eventually(s.t, within, "ten running plugins and no process besides", func(ctx context.Context) bool {
		plugins, err := s.host.Plugins(ctx)
		if err != nil {
			return false
		}
		running := 0
		for _, p := range plugins {
			if p.State == "running" && p.PID > 0 {
				running++
			}
		}
		below, err := rig.Descendants(s.host.PID)
		return err == nil && running == len(s.names()) && len(below) == len(s.names())
	})
	eventually(s.t, within, "a footprint without leaks", func(context.Context) bool {
		s.host.Forget() // connections of ours are no leak of the host's
		now = s.footprint()
		s.latest = now
		return now.processes == len(s.names()) && now.socketsNow == len(s.names()) && like(now)
	})
	return now
}

func TestTenPluginsInTroubleForLongLoseNothingAndLeakNothing(t *testing.T) {
	t.Parallel()
	lasts := soakTime(t)
	s := newSoak(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %s", seed, lasts)
	random := rand.New(rand.NewPCG(seed, 0))
	s.start()

	// The ledger reads back every row of ten files: the longer it lasts, the slower the rows come.
	shape := loadOptions{clients: 6, rows: 10, pause: max(20*time.Millisecond, lasts/9000)}
	// A first load, and a first round of trouble, fill caches and pools; what grows after that is a leak.
	l := startLoad(t, s.host.URL, shape)
	warm, endWarm := context.WithTimeout(t.Context(), min(lasts/4, 30*time.Second))
	for warm.Err() == nil {
		s.trouble(warm, random)
	}
	endWarm()
	l.stop()
	before := s.settled(2*time.Minute, func(footprint) bool { return true })
	t.Logf("at the beginning: %+v", before)

	l2 := startLoad(t, s.host.URL, shape)
	ctx, end := context.WithTimeout(t.Context(), lasts)
	defer end()
	next := time.Now()
	for ctx.Err() == nil {
		s.trouble(ctx, random)
		if now := time.Now(); now.After(next) {
			s.measured = append(s.measured, s.footprint())
			next = now.Add(lasts / 20)
		}
		_ = rig.Pause(ctx, time.Duration(random.IntN(300))*time.Millisecond)
	}
	l2.stop()
	defer func() { t.Logf("last seen:        %+v", s.latest) }()
	after := s.settled(2*time.Minute, func(f footprint) bool {
		return f.goroutines <= before.goroutines+10 && f.files <= before.files+10
	})
	t.Logf("at the end:       %+v", after)
	t.Logf("trouble: %v; %d bad upgrades were refused", s.done, s.refused)

	l.merge(l2.ledger)
	for _, name := range s.files {
		dead := s.deadLetters(name)
		require.Empty(t, dead, "trouble of the plugin's process costs no rows")
		l.settle(t, name, arrivals(t, s.out(name)), dead)
	}
	for _, name := range s.witnesses {
		dead := s.deadLetters(name)
		require.Empty(t, dead, "trouble of the plugin's process costs no rows")
		l.settle(t, name, once(arrivals(t, s.out(name))), dead)
	}

	s.requireFlatMemory()

	children, err := rig.Descendants(s.host.PID)
	require.NoError(t, err)
	s.stop()
	for _, c := range children {
		require.False(t, c.Alive(), "process %d outlives its host", c.PID)
	}
	require.Empty(t, s.sockets(), "after a stop in good order")
}

// requireFlatMemory compares the first and the last third of the samples: their smallest values, since what the collector
// has not yet given back says nothing.
func (s *soak) requireFlatMemory() {
	s.t.Helper()
	third := len(s.measured) / 3
	require.Positive(s.t, third, "too few samples")
	least := func(samples []footprint) int64 {
		low := samples[0].resident
		for _, f := range samples {
			low = min(low, f.resident)
		}
		return low
	}
	first, last := least(s.measured[:third]), least(s.measured[len(s.measured)-third:])
	s.t.Logf("resident memory of the host: %d MiB in the first third, %d MiB in the last", first>>20, last>>20)
	require.LessOrEqual(s.t, last, first+first/4+(16<<20), "the host's memory grows")
}
