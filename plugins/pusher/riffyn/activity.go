package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/rivergate/rivergate/sdk"
)

// activity is where the values of a run go: the last output of a process step, and its properties.
type activity struct {
	resource   string         // id of the output
	properties []property     // the first is the primary key
	named      map[string]int // place of a property by the name that a row's member has for it; ambiguous: several have it
	fetched    time.Time
}

type property struct{ id, name, member string }

const ambiguous = -1

// fetchActivity asks for an activity.
func fetchActivity(ctx context.Context, a *api, at place) (*activity, *failure) {
	var answer struct {
		Outputs []struct {
			ID         id `json:"_id"`
			Properties []struct {
				ID   id     `json:"_id"`
				Name string `json:"name"`
			} `json:"properties"`
		} `json:"outputs"`
	}
	path := "/process/" + url.PathEscape(at.experiment) + "/activity/" + url.PathEscape(at.activity)
	if f := a.call(ctx, http.MethodGet, path, nil, &answer); f != nil {
		f.err = fmt.Errorf("ask for activity %s of experiment %s: %w", at.activity, at.experiment, f.err)
		return nil, f
	}
	if len(answer.Outputs) == 0 {
		return nil, unfit(at, errors.New("has no output"))
	}
	output := answer.Outputs[len(answer.Outputs)-1]
	act := &activity{resource: string(output.ID), named: map[string]int{}, fetched: a.now()}
	if len(output.Properties) == 0 {
		return nil, unfit(at, errors.New("has no property in its last output"))
	}
	for i, p := range output.Properties {
		member := camelCase(p.Name)
		act.properties = append(act.properties, property{id: string(p.ID), name: p.Name, member: member})
		if _, taken := act.named[member]; taken {
			i = ambiguous
		}
		act.named[member] = i
	}
	return act, nil
}

func unfit(at place, err error) *failure {
	return &failure{verdict: gone, err: sdk.Permanent("bad_activity", fmt.Errorf("activity %s of experiment %s %w", at.activity, at.experiment, err))}
}

// maxActivities bounds the cache.
const maxActivities = 1000

// minAge is how old an activity is at least when a row that does not fit makes it be asked for again.
const minAge = 30 * time.Second

// activities keeps what was asked for. It belongs to the goroutine of Deliver.
type activities struct {
	api   *api
	ttl   time.Duration
	now   func() time.Time
	known map[place]*activity
	calls int
}

// get returns an activity that is at most maxAge old.
func (c *activities) get(ctx context.Context, at place, maxAge time.Duration) (*activity, *failure) {
	if act := c.known[at]; act != nil && c.now().Sub(act.fetched) <= min(maxAge, c.ttl) {
		return act, nil
	}
	delete(c.known, at)
	c.calls++
	act, f := fetchActivity(ctx, c.api, at)
	if f != nil {
		return nil, f
	}
	if len(c.known) >= maxActivities {
		clear(c.known) // rare, and no more than a call each
	}
	c.known[at] = act
	return act, nil
}

// drop makes an activity be asked for again.
func (c *activities) drop(at place) { delete(c.known, at) }
