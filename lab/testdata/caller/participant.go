package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"
)

// participant is one who is in the room, and all that happened to the
// connection.
type participant struct {
	room  *lksdk.Room
	tally tally
	reads sync.WaitGroup

	mu     sync.Mutex
	record record
	tracks []*webrtc.TrackRemote
}

// record counts what a client library tells an application that shows its
// users "reconnecting…". In an undisturbed call every count is zero.
type record struct {
	Identity     string   `json:"identity"`
	Reconnecting int      `json:"reconnecting"`
	Reconnected  int      `json:"reconnected"`
	Disconnected int      `json:"disconnected"`
	Unsubscribed int      `json:"unsubscribed"`   // tracks that were heard and went away
	Left         []string `json:"left,omitempty"` // others of this call who were seen to leave
	Reasons      []string `json:"reasons,omitempty"`
}

// enter joins a room. It does not wait longer than ctx allows, although the
// library cannot be interrupted.
func enter(ctx context.Context, url, token string) (*participant, error) {
	p := &participant{}
	entered := make(chan error, 1)
	go func() {
		room := lksdk.NewRoom(p.callbacks())
		p.room = room
		entered <- room.JoinWithToken(url, token)
	}()
	select {
	case err := <-entered:
		if err != nil {
			return nil, fmt.Errorf("join room: %w", err)
		}
	case <-ctx.Done():
		return nil, fmt.Errorf("join room: %w", context.Cause(ctx))
	}
	p.note(func(r *record) { r.Identity = p.room.LocalParticipant.Identity() })
	return p, nil
}

func (p *participant) callbacks() *lksdk.RoomCallback {
	return &lksdk.RoomCallback{
		OnReconnecting: func() { p.note(func(r *record) { r.Reconnecting++ }) },
		OnReconnected:  func() { p.note(func(r *record) { r.Reconnected++ }) },
		OnDisconnectedWithReason: func(reason lksdk.DisconnectionReason) {
			p.note(func(r *record) {
				r.Disconnected++
				r.Reasons = append(r.Reasons, string(reason))
			})
		},
		OnParticipantDisconnected: func(other *lksdk.RemoteParticipant) {
			p.note(func(r *record) { r.Left = append(r.Left, other.Identity()) })
		},
		ParticipantCallback: lksdk.ParticipantCallback{
			OnTrackSubscribed: func(track *webrtc.TrackRemote, _ *lksdk.RemoteTrackPublication, _ *lksdk.RemoteParticipant) {
				p.note(func(*record) { p.tracks = append(p.tracks, track) })
				p.reads.Go(func() { p.listen(track) })
			},
			OnTrackUnsubscribed: func(*webrtc.TrackRemote, *lksdk.RemoteTrackPublication, *lksdk.RemoteParticipant) {
				p.note(func(r *record) { r.Unsubscribed++ })
			},
		},
	}
}

// listen counts the frames of a track until it ends.
func (p *participant) listen(track *webrtc.TrackRemote) {
	for {
		packet, _, err := track.ReadRTP()
		at := time.Now()
		if err != nil {
			return
		}
		if seq, sent, ok := decodeFrame(packet.Payload); ok {
			p.tally.add(arrival{seq: seq, sent: sent, at: at})
		} else {
			p.tally.addForeign()
		}
	}
}

func (p *participant) note(change func(*record)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.record)
}

// told returns the record as it is now.
func (p *participant) told() record {
	p.mu.Lock()
	defer p.mu.Unlock()
	told := p.record
	told.Left, told.Reasons = slices.Clone(told.Left), slices.Clone(told.Reasons)
	return told
}

// leave leaves the room and waits until nothing more is heard.
func (p *participant) leave() {
	p.room.Disconnect()
	p.note(func(*record) {
		for _, track := range p.tracks { // while it reconnects in vain, the library ends no read
			_ = track.SetReadDeadline(time.Now())
		}
	})
	p.reads.Wait()
}
