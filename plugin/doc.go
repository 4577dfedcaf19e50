// Package plugin is the contract between the host and what it runs, and the
// one idiom that brings an external binary to a supervised, proven-ready
// service: acquire, register, start, prove, announce.
//
// # Plugins
//
// A [Plugin] reacts to events. Its handlers are level-based: an event is a
// reason to compare what is wanted with what is, never an order to repeat, so
// an event that is lost, late, doubled or out of order changes nothing in the
// end. Plugins are values in one list of the program; nothing registers itself.
//
// # Services
//
// A [Service] is data about an external binary, with two hooks. [Lifecycle] is
// the plugin that runs any service. What is wanted of it (started or stopped,
// and which version) is recorded in one place, the supervisor; what is true of
// it is derived from the supervisor and a probe, never from a handle in memory.
// So a host may die at any moment: the next one reads the same and goes on.
//
// While any process of a service is alive its registration is left alone.
// Changed settings and versions take effect when it is restarted, all at once.
package plugin
