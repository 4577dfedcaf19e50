package binary

import "time"

// The steps that a [Progress] can tell of.
const (
	StepResolve  = "resolve"  // finding out what to get, or waiting for another who gets it
	StepDownload = "download" // Bytes of Total are here
	StepVerify   = "verify"
	StepUnpack   = "unpack"
	StepBuild    = "build"   // Detail counts
	StepSkipped  = "skipped" // this source was passed over; Detail says why
)

// FromStore is the source of what was in the store already.
const FromStore = "store"

// Progress tells how far an acquisition is.
type Progress struct {
	Source string // store, installed, release or gomodule
	Step   string
	Bytes  int64  // done so far; zero when they do not count here
	Total  int64  // zero when unknown
	Detail string // one line for people; no credentials
}

// oftenEnough is the time between two reports of the same step.
const oftenEnough = 100 * time.Millisecond

// reporter passes progress on, not more often than anybody can read it.
type reporter struct {
	tell func(Progress)
	step string
	last time.Time
}

// say reports a step, dropping what comes too soon after the last report of
// the same step.
func (r *reporter) say(p Progress) {
	now := time.Now()
	what := p.Source + " " + p.Step
	if what == r.step && now.Sub(r.last) < oftenEnough && (p.Total == 0 || p.Bytes != p.Total) {
		return
	}
	r.pass(p)
	r.step, r.last = what, now
}

// skipped reports that a source was passed over.
func (r *reporter) skipped(source string, why *Error) {
	r.pass(Progress{Source: source, Step: StepSkipped, Detail: why.Message})
	r.step = ""
}

func (r *reporter) pass(p Progress) {
	if r.tell == nil {
		return
	}
	p.Detail = scrub(p.Detail)
	r.tell(p)
}
