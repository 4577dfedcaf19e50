//go:build !linux

package proc

import (
	"context"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// Keep returns [ErrUnsupported].
func Keep(context.Context, Config) error { return ErrUnsupported }

// Supervise returns [ErrUnsupported].
func Supervise(context.Context, Config) error { return ErrUnsupported }

// Kept is false: there is no keeper on this platform.
func Kept(plugin.Paths) bool { return false }

// EndLeftBehind does nothing: nothing was ever started on this platform.
func EndLeftBehind(context.Context, plugin.Paths) error { return nil }

// LeftBehind is false: nothing was ever started on this platform.
func LeftBehind(plugin.Paths) (bool, error) { return false, nil }
