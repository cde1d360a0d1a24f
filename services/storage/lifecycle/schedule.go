package lifecycle

import (
	"context"
	"errors"
	"time"
)

const (
	// lease is how long a scheduled run belongs to its host without a word from it.
	lease = 5 * time.Minute
	// lookEvery is the longest pause between looks whether a run is due: another host may have died in one.
	lookEvery = time.Minute
)

// errTaken: another host has taken the run over.
var errTaken = errors.New("another host goes on with the scheduled run")

// schedule runs the policy over all orgs until the service ends.
func (l *Lifecycle) schedule() {
	tick := time.NewTicker(min(l.every, lookEvery))
	defer tick.Stop()
	for {
		if err := l.due(l.life); err != nil && l.life.Err() == nil {
			l.log.Warn("the scheduled run over the tiers did not end as it should; it is tried again", "error", err)
		}
		select {
		case <-l.life.Done():
			return
		case <-tick.C:
		}
	}
}

// due runs the policy, when it is time and no other host does.
func (l *Lifecycle) due(ctx context.Context) error {
	mine, err := l.acquire(ctx, l.now().Add(-l.every))
	if err != nil || !mine {
		return err
	}
	renewed := l.now()
	done, err := l.apply(ctx, Run{Policy: l.policy, Limit: DefaultLimit}, func(ctx context.Context) error {
		if l.now().Sub(renewed) < lease/4 {
			return nil
		}
		renewed = l.now()
		return l.renew(ctx)
	})
	if err != nil {
		return errors.Join(err, l.release(ctx))
	}
	if done.Scanned > 0 {
		l.log.Info("files moved between tiers", "to_warm", done.ToWarm, "to_cold", done.ToCold, "expired", done.Deleted, "bytes", done.BytesMoved, "failed", done.Failed)
	}
	return nil
}
