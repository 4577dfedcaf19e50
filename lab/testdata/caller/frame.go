package main

import (
	"bytes"
	"encoding/binary"
	"time"
)

// frameInterval is the length of an Opus frame here, and so the pace.
const frameInterval = 20 * time.Millisecond

// opusTOC announces one frame of 20 ms: CELT, full band, mono. No decoder ever
// sees what follows it.
const opusTOC = 0xF8

// frameMark tells our frames from the silence a server may fill in.
var frameMark = []byte("call")

// epoch is what the times within frames count from: sender and receivers are
// one process and have one clock.
var epoch = time.Now()

// encodeFrame makes the payload that carries the number and the time of
// sending.
func encodeFrame(seq uint64, at time.Time) []byte {
	b := append([]byte{opusTOC}, frameMark...)
	b = binary.BigEndian.AppendUint64(b, seq)
	return binary.BigEndian.AppendUint64(b, uint64(at.Sub(epoch)))
}

// decodeFrame takes a payload apart; ok is false when it is none of ours.
func decodeFrame(b []byte) (seq uint64, sent time.Time, ok bool) {
	head := 1 + len(frameMark)
	if len(b) != head+16 || b[0] != opusTOC || !bytes.Equal(b[1:head], frameMark) {
		return 0, time.Time{}, false
	}
	since := time.Duration(binary.BigEndian.Uint64(b[head+8:]))
	return binary.BigEndian.Uint64(b[head:]), epoch.Add(since), true
}
