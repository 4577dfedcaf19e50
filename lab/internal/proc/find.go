//go:build linux

package proc

import "regexp"

// finder looks for lines in what a process has written. It reads every line
// once for each expression.
type finder struct {
	book logbook
	from int64 // where the output of the process begins
	all  bool  // every expression has matched, in the life of another supervisor

	looked map[string]int64 // up to where
	found  map[string]bool
}

// find reports whether a line has matched the expression since the process
// started.
func (f *finder) find(expression *regexp.Regexp) (bool, error) {
	name := expression.String()
	if f.all || f.found[name] {
		return true, nil
	}
	if f.looked == nil {
		f.looked, f.found = map[string]int64{}, map[string]bool{}
	}
	var err error
	f.looked[name], err = f.book.read(max(f.from, f.looked[name]), func(e entry) bool {
		f.found[name] = expression.MatchString(e.text)
		return !f.found[name]
	})
	return f.found[name], err
}
