package main

import (
	"testing"
	"time"

	"github.com/matryer/is"
)

// heard makes a tally of frames that arrived 20 ms after one another, each a
// millisecond after it was sent.
func heard(seqs ...uint64) *tally {
	t := &tally{}
	for i, seq := range seqs {
		at := epoch.Add(time.Duration(i) * frameInterval)
		t.add(arrival{seq: seq, sent: at.Add(-time.Millisecond), at: at})
	}
	return t
}

func TestSumJudgesOnlyTheFramesThatCount(t *testing.T) {
	is := is.New(t)
	s := heard(7, 9, 10, 11, 12, 13, 14, 15).sum(10, 13, epoch.Add(time.Second)) // 8 is lost before the beginning
	is.Equal(s, summary{Received: 4, LongestGapMS: 20, SlowestMS: 1})
}

func TestSumTellsLossesDuplicatesAndDisorder(t *testing.T) {
	is := is.New(t)
	s := heard(1, 2, 3, 3, 6, 5, 7, 8).sum(2, 7, epoch.Add(time.Second))
	is.Equal(s.Missing, []uint64{4})
	is.Equal(s.Lost, 1)
	is.Equal(s.Duplicated, 1)
	is.Equal(s.OutOfOrder, 1)
	is.Equal(s.Received, 5)
}

func TestSumTakesSilenceToTheEndForAGap(t *testing.T) {
	is := is.New(t)
	short := heard(1, 2, 3)
	end := epoch.Add(2*frameInterval + 700*time.Millisecond)
	is.Equal(short.sum(2, 50, end).LongestGapMS, 700.0) // it went silent
	is.Equal(short.sum(2, 50, end).Lost, 47)
	is.Equal((&tally{}).sum(1, 5, end).Lost, 5) // it never heard anything
}

func TestFrameCarriesNumberAndTime(t *testing.T) {
	is := is.New(t)
	at := epoch.Add(3 * time.Second)
	seq, sent, ok := decodeFrame(encodeFrame(1<<40, at))
	is.True(ok)
	is.Equal(seq, uint64(1<<40))
	is.True(sent.Equal(at))
	_, _, ok = decodeFrame([]byte{opusTOC, 0xFF, 0xFE}) // silence
	is.True(!ok)
}
