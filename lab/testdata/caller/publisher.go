package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

// publisher sends numbered frames, the first is 1.
type publisher struct {
	*participant
	track *lksdk.LocalTrack

	mu   sync.Mutex
	pace pace
}

// pace is how the sending went; what a busy machine does to the sender must
// not be taken for what happened to the call.
type pace struct {
	Last         uint64  `json:"-"`                   // number of the last frame sent
	LatestMS     float64 `json:"latest_ms"`           // behind the clock, at worst
	LongestGapMS float64 `json:"longest_send_gap_ms"` // between two frames, at worst
	Errors       int     `json:"send_errors"`
	Error        string  `json:"send_error,omitempty"` // the last of them
}

// publish offers a track to the room.
func publish(p *participant) (*publisher, error) {
	track, err := lksdk.NewLocalTrack(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2})
	if err != nil {
		return nil, fmt.Errorf("make track: %w", err)
	}
	if _, err := p.room.LocalParticipant.PublishTrack(track, &lksdk.TrackPublicationOptions{Name: "voice"}); err != nil {
		return nil, fmt.Errorf("publish track: %w", err)
	}
	return &publisher{participant: p, track: track}, nil
}

// send sends a frame every 20 ms until ctx ends. Deadlines are absolute: one
// that was missed is made up for at once, so the pace does not drift.
func (p *publisher) send(ctx context.Context) {
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var before time.Time
	for seq := uint64(1); ; seq++ {
		due := begin.Add(time.Duration(seq) * frameInterval)
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now := time.Now()
		err := p.track.WriteSample(media.Sample{Data: encodeFrame(seq, now), Duration: frameInterval}, nil)
		p.sent(seq, now.Sub(due), now, before, err)
		before = now
	}
}

func (p *publisher) sent(seq uint64, late time.Duration, now, before time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pace.Last = seq
	p.pace.LatestMS = max(p.pace.LatestMS, millis(late))
	if !before.IsZero() {
		p.pace.LongestGapMS = max(p.pace.LongestGapMS, millis(now.Sub(before)))
	}
	if err != nil {
		p.pace.Errors++
		p.pace.Error = err.Error()
	}
}

// measureAnew forgets how the pace was and returns the number of the first
// frame that is still to be sent.
func (p *publisher) measureAnew() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pace = pace{Last: p.pace.Last}
	return p.pace.Last + 1
}

// now returns the pace since it was last measured anew.
func (p *publisher) now() pace {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pace
}
