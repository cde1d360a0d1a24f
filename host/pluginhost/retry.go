package pluginhost

import (
	"math/rand/v2"
	"time"
)

// pace is how fast things happen; tests make them happen faster.
type pace struct {
	backoffMin, backoffMax time.Duration
	healthyAfter           time.Duration // a process that ran so long starts with a clean slate
	loopCrashes            int           // so many …
	loopWindow             time.Duration // … within this make a crash loop
	progressMax            time.Duration // longest pause for a plugin that crashes and still gets on
	firstWord              time.Duration // that Start waits for
	healthEvery            time.Duration // of an instance that is well
	doubtEvery             time.Duration // of one that is not, or did not answer
	healthTimeout          time.Duration
	healthMisses           int
	attachEvery            time.Duration // between attempts to connect to a process that somebody else runs
}

func defaultPace() pace {
	return pace{
		backoffMin: 250 * time.Millisecond, backoffMax: 30 * time.Second, healthyAfter: time.Minute,
		loopCrashes: 5, loopWindow: time.Minute, progressMax: time.Second, firstWord: 3 * time.Second,
		healthEvery: 10 * time.Second, doubtEvery: time.Second, healthTimeout: 2 * time.Second, healthMisses: 3,
		attachEvery: time.Second,
	}
}

// maxLoneCrashes is how often in a row a single row in flight is taken for the end of a poison search.
const maxLoneCrashes = 3

// retry decides how long to wait before the next start.
type retry struct {
	pace     pace
	failures int         // in a row
	crashes  []time.Time // within loopWindow
	inFlight int64       // rows at the last crash
	lone     int         // crashes in a row with one row in flight
}

func newRetry(p pace) *retry { return &retry{pace: p} }

// afterFailure: a start failed.
func (b *retry) afterFailure() time.Duration {
	b.failures++
	return b.backoff()
}

// afterCrash: a process that delivered has died. The first time it is started again at once.
func (b *retry) afterCrash(r *running) (time.Duration, State) {
	now := time.Now()
	if b.narrows(r.rowsInFlight.Load()) {
		return 0, StateStarting
	}
	if now.Sub(r.since) >= b.pace.healthyAfter {
		b.failures, b.crashes = 0, nil
	}
	for len(b.crashes) > 0 && now.Sub(b.crashes[0]) >= b.pace.loopWindow {
		b.crashes = b.crashes[1:]
	}
	b.crashes = append(b.crashes, now)
	delay := time.Duration(0)
	if b.failures > 0 {
		delay = b.backoff()
	}
	b.failures++
	state := StateBackingOff
	if len(b.crashes) >= b.pace.loopCrashes {
		state, delay = StateCrashLoop, b.pace.backoffMax
	}
	if r.progressed.Load() {
		delay = min(delay, b.pace.progressMax)
	}
	return delay, state
}

// narrows tells whether the crash is a step of delivery's search for the row that kills the plugin: fewer rows in flight
// than at the crash before, down to one, which is tried a few times. Waiting longer and longer would only make the
// search take minutes; the next crash with many rows in flight counts again.
func (b *retry) narrows(inFlight int64) bool {
	before := b.inFlight
	b.inFlight = inFlight
	if inFlight == 1 {
		b.lone++
	} else {
		b.lone = 0
	}
	return inFlight > 0 && (inFlight < before || inFlight == 1 && before == 1 && b.lone <= maxLoneCrashes)
}

// backoff doubles with each failure, with a jitter of a quarter to either side.
func (b *retry) backoff() time.Duration {
	d := b.pace.backoffMax
	if shift := max(b.failures-1, 0); shift < 16 {
		d = min(d, b.pace.backoffMin<<shift)
	}
	jitter := d / 4
	return min(d-jitter+rand.N(2*jitter+1), b.pace.backoffMax) // #nosec G404 -- jitter is no secret
}
