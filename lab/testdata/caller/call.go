package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	patience  = 30 * time.Second // for a call to come about
	grace     = time.Second      // for the last frames to arrive
	settled   = 25               // consecutive frames after which a subscription is past its beginning
	lookEvery = 10 * time.Millisecond
	tellEvery = 500 * time.Millisecond
	listenFor = 10 * time.Second // of a join, all of it
)

// report is the last line of a call.
type report struct {
	Event        string       `json:"event"`
	Room         string       `json:"room,omitempty"`
	Seconds      float64      `json:"seconds"` // measured
	Sent         int          `json:"sent"`    // the frames that count
	Pace         pace         `json:"pace"`
	Subscribers  []subscriber `json:"subscribers"`
	Participants []record     `json:"participants"` // everybody, the publisher first
	Errors       []string     `json:"errors"`
}

// subscriber is what one of them heard.
type subscriber struct {
	Identity string `json:"identity"`
	summary
}

// progress is how a call goes on.
type progress struct {
	Event   string `json:"event"`
	Sent    int    `json:"sent"`
	Missing []int  `json:"missing"` // per subscriber: sent longer than the grace ago and not heard
}

// call makes a call and measures it until ctx ends or its time is over.
func call(ctx context.Context, p plan, out *output) error {
	setup, cancel := context.WithTimeoutCause(ctx, patience, errors.New("nothing for "+patience.String()))
	defer cancel()
	begun := time.Now()
	everybody, err := gather(setup, p)
	if err != nil {
		return err
	}
	defer func() {
		for _, each := range everybody {
			each.leave()
		}
	}()
	voice, err := publish(everybody[0])
	if err != nil {
		return err
	}
	speaking, hush := context.WithCancel(context.WithoutCancel(ctx))
	var sender sync.WaitGroup
	sender.Go(func() { voice.send(speaking) })
	defer sender.Wait()
	defer hush()
	listeners := everybody[1:]
	if err := await(setup, func() bool { return all(listeners, func(l *participant) bool { return l.tally.fluent(settled) }) }); err != nil {
		return fmt.Errorf("hear the publisher: %w", err)
	}
	first, started := voice.measureAnew(), time.Now()
	out.write(map[string]any{"event": "started", "first": first, "setup_ms": millis(started.Sub(begun))})
	listen(ctx, p, voice, listeners, first, out)
	pace, seconds := voice.now(), time.Since(started).Seconds()
	final, cancelFinal := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancelFinal()
	_ = await(final, func() bool { // who is late by then has lost
		return all(listeners, func(l *participant) bool { return l.tally.missing(first, pace.Last) == 0 })
	})
	out.write(summarize(p, everybody, first, pace, seconds))
	return nil
}

// gather has everybody join, the publisher first in the result. They join at
// once, as callers do.
func gather(ctx context.Context, p plan) ([]*participant, error) {
	keys := append([]string{p.Tokens.Publisher}, p.Tokens.Subscribers...)
	everybody, errs := make([]*participant, len(keys)), make([]error, len(keys))
	var entering sync.WaitGroup
	for i, token := range keys {
		entering.Go(func() { everybody[i], errs[i] = enter(ctx, p.URL, token) })
	}
	entering.Wait()
	err := errors.Join(errs...)
	if err == nil {
		return everybody, nil
	}
	for _, each := range everybody {
		if each != nil {
			each.leave()
		}
	}
	return nil, err
}

// listen lets the call go on and tells of it, until its end.
func listen(ctx context.Context, p plan, voice *publisher, listeners []*participant, first uint64, out *output) {
	var over <-chan time.Time
	if p.Seconds > 0 {
		over = time.After(time.Duration(p.Seconds * float64(time.Second)))
	}
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-over:
			return
		case <-tick.C:
		}
		last := voice.now().Last
		line := progress{Event: "progress", Sent: int(last-first) + 1}
		due := last - min(last, uint64(grace/frameInterval))
		for _, each := range listeners {
			line.Missing = append(line.Missing, each.tally.missing(first, due))
		}
		out.write(line)
	}
}

func summarize(p plan, everybody []*participant, first uint64, pace pace, seconds float64) report {
	r := report{Event: "report", Room: p.Room, Seconds: seconds, Sent: int(pace.Last-first) + 1, Pace: pace, Errors: []string{}}
	end := time.Now()
	members := []string{} // others may join for a moment and go
	for _, each := range everybody {
		members = append(members, each.told().Identity)
	}
	for i, each := range everybody {
		told := each.told()
		told.Left = slices.DeleteFunc(told.Left, func(who string) bool { return !slices.Contains(members, who) })
		r.Participants = append(r.Participants, told)
		if i > 0 {
			r.Subscribers = append(r.Subscribers, subscriber{told.Identity, each.tally.sum(first, pace.Last, end)})
		}
		for _, reason := range told.Reasons {
			r.Errors = append(r.Errors, told.Identity+" was disconnected: "+reason)
		}
	}
	if pace.Errors > 0 {
		r.Errors = append(r.Errors, fmt.Sprintf("%d frames were not sent, the last: %s", pace.Errors, p.redact(pace.Error)))
	}
	return r
}

// joined is the last line of a plan that only joins.
type joined struct {
	Event       string  `json:"event"`
	ConnectedMS float64 `json:"connected_ms"` // since the start of joining
	HeardMS     float64 `json:"heard_ms"`     // the first frame, since the start of joining
	Frames      int     `json:"frames"`
}

// join joins once, hears the publisher for a moment and leaves.
func join(ctx context.Context, p plan, out *output) error {
	ctx, cancel := context.WithTimeoutCause(ctx, listenFor, errors.New("nothing for "+listenFor.String()))
	defer cancel()
	begun := time.Now()
	guest, err := enter(ctx, p.URL, p.Tokens.Join)
	if err != nil {
		return err
	}
	defer guest.leave()
	line := joined{Event: "joined", ConnectedMS: millis(time.Since(begun))}
	if err := await(ctx, func() bool { return guest.tally.heard() >= 1 }); err != nil {
		return fmt.Errorf("hear the publisher: %w", err)
	}
	line.HeardMS = millis(time.Since(begun))
	if err := await(ctx, func() bool { return guest.tally.heard() >= p.Frames }); err != nil {
		return fmt.Errorf("go on hearing the publisher: %w", err)
	}
	line.Frames = guest.tally.heard()
	out.write(line)
	return nil
}

// await looks until done or until ctx ends.
func await(ctx context.Context, done func() bool) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

func all(participants []*participant, are func(*participant) bool) bool {
	for _, each := range participants {
		if !are(each) {
			return false
		}
	}
	return true
}
