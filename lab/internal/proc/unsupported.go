//go:build !linux

package proc

import "context"

// Keep returns [ErrUnsupported].
func Keep(context.Context, Config) error { return ErrUnsupported }

// Supervise returns [ErrUnsupported].
func Supervise(context.Context, Config) error { return ErrUnsupported }
