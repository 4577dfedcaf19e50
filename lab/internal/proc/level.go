package proc

import (
	"regexp"
	"strings"
)

// levelIn finds the level in a line as the usual loggers write it: as JSON, as
// key=value, or as a word in capitals near the beginning.
var levelIn = regexp.MustCompile(`"(?:level|lvl|severity)":\s*"(\w+)"` +
	`|\b(?:level|lvl|severity)="?(\w+)` +
	`|^.{0,40}?\b(TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|PANIC|CRITICAL)\b`)

// levels are the names of levels, by what programs call them.
var levels = map[string]string{
	"trace": "trace", "debug": "debug", "info": "info", "notice": "info", "warn": "warn", "warning": "warn",
	"error": "error", "err": "error", "fatal": "error", "panic": "error", "critical": "error", "crit": "error",
}

// levelOf is the level of a line of output: trace, debug, info, warn or error;
// empty where it does not say.
func levelOf(line string) string {
	for _, word := range levelIn.FindStringSubmatch(line) {
		if level := levels[strings.ToLower(word)]; level != "" {
			return level
		}
	}
	return ""
}
