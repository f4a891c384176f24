package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hotsvc/svc/server/socket"
)

// The protocol between keeper and worker. A message is one JSON object in one
// packet of a SOCK_SEQPACKET pair; what may be large (contents, states) is a
// sealed memory file beside it, and sockets are file descriptors. A field or a
// type that the other end does not know is left alone, so an older worker and a
// newer one understand each other as long as the version is the same.
const (
	protocolVersion = 1
	maxMessage      = 64 << 10
	// maxFiles is how many descriptors a message may carry: the kernel allows
	// 253 (SCM_MAX_FD).
	maxFiles = 250
	// maxSockets is how many addresses a generation may listen on.
	maxSockets = 200
	// maxBlob bounds a content or a state, in bytes.
	maxBlob = 64 << 20
	// maxText bounds what a worker says of an error.
	maxText = 4 << 10
	// maxStates is how many states are kept for those who are started later.
	maxStates = 8
	// maxName bounds the name of a state and a version, and maxKinds the kinds of
	// connections: what a worker says is told to others, in messages of their own.
	maxName  = 128
	maxKinds = 64
)

// kind is what a message says. Those of the keeper and those of workers have
// different names.
type kind string

// From the keeper.
const (
	kindStart    kind = "start"    // the first message: who you are, and files: content and states
	kindSockets  kind = "sockets"  // answers listen, with the sockets
	kindCommit   kind = "commit"   // accept
	kindHandover kind = "handover" // a successor accepts; with where idle connections go
	kindAdopt    kind = "adopt"    // with the stream of a predecessor's idle connections
	kindDrainBy  kind = "drain_by" // the end of the drain has moved
	kindRelease  kind = "release"  // end the accepting on sockets that were given up
	kindResume   kind = "resume"   // the successor has died; with the sockets
	kindSettled  kind = "settled"  // probation is over
	kindResult   kind = "result"   // of a restart that was asked for
	kindTable    kind = "table"    // answers status; with the table as JSON
	kindReload   kind = "reload"   // re-read the sources
	kindDump     kind = "dump"     // write the goroutines to stderr
	kindStop     kind = "stop"     // drain and exit
	kindStopNow  kind = "stop_now" // exit
	kindRelayed  kind = "relayed"  // with a state of a draining generation
)

// From a worker.
const (
	kindHello     kind = "hello"     // the first message
	kindListen    kind = "listen"    // asks for sockets
	kindPrepared  kind = "prepared"  // everything is there; waits for commit
	kindAccepting kind = "accepting" // commit was obeyed
	kindFailed    kind = "failed"    // it ends, because of this
	kindReleased  kind = "released"  // listeners are closed
	kindContent   kind = "content"   // in force now; with the content
	kindKeep      kind = "keep"      // with a state for those who are started later
	kindState     kind = "state"     // with a state for the generation that serves
	kindRestart   kind = "restart"   // asks for one; maybe with a content
	kindCancel    kind = "cancel"    // takes that back
	kindStatus    kind = "status"    // asks for the table
	kindReport    kind = "report"    // what it holds
	kindReloaded  kind = "reloaded"  // answers reload
)

// message is any of them; which fields count depends on the kind.
type message struct {
	Kind kind `json:"kind"`
	// ID pairs an answer with its question.
	ID int64 `json:"id,omitempty"`

	Protocol   int    `json:"protocol,omitempty"`
	PID        int    `json:"pid,omitempty"`
	Version    string `json:"version,omitempty"`
	Generation int    `json:"generation,omitempty"`

	Addresses []request       `json:"addresses,omitempty"` // listen
	Sockets   []given         `json:"sockets,omitempty"`   // sockets, resume
	Keys      []string        `json:"keys,omitempty"`      // release, released
	Kept      map[string]bool `json:"kept,omitempty"`      // prepared: those it listens on; handover
	Limits    *Limits         `json:"limits,omitempty"`    // prepared, report
	Left      time.Duration   `json:"left,omitempty"`      // handover, drain_by: until the drain must have ended; no time, as the clock may be set
	Name      string          `json:"name,omitempty"`      // keep, state, relayed
	States    []string        `json:"states,omitempty"`    // start: the names of the states that come with it
	Content   bool            `json:"content,omitempty"`   // start, restart: a content comes with it
	Held      map[string]int  `json:"held,omitempty"`      // report
	Error     string          `json:"error,omitempty"`     // failed, result, sockets, resume, table
	Retryable bool            `json:"retryable,omitempty"` // whether the environment was to blame for it
	Reason    string          `json:"reason,omitempty"`    // restart, stop: why, for people
}

// request is an address that a worker wants to listen on.
type request struct {
	Address socket.Address `json:"address"`
	Mode    uint32         `json:"mode,omitempty"` // of a unix socket
}

// given is a socket that comes with a message, in the order of its files.
type given struct {
	Address socket.Address `json:"address"`
	Key     string         `json:"key"`
	// Alias says that nobody asked for it: it is there because a wider address
	// was asked for, and connections for this one still arrive here.
	Alias bool `json:"alias,omitempty"`
}

var errMessage = errors.New("broken message")

func encodeMessage(m message) ([]byte, error) {
	m.Error, m.Reason = bounded(m.Error), bounded(m.Reason)
	data, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode message %s: %w", m.Kind, err)
	}
	if len(data) > maxMessage {
		return nil, fmt.Errorf("%w: %s of %d bytes, more than %d", errMessage, m.Kind, len(data), maxMessage)
	}
	return data, nil
}

// decodeMessage quotes nothing of what it cannot read.
func decodeMessage(data []byte) (message, error) {
	var m message
	if err := json.Unmarshal(data, &m); err != nil || m.Kind == "" {
		return message{}, errMessage
	}
	if len(m.Addresses) > maxSockets || len(m.Kept) > maxSockets || len(m.Keys) > maxSockets {
		return message{}, fmt.Errorf("%w: more than %d sockets", errMessage, maxSockets)
	}
	if len(m.Sockets) > maxFiles || len(m.States) > maxStates || len(m.Name) > maxName || len(m.Held) > maxKinds {
		return message{}, fmt.Errorf("%w: too much of something", errMessage)
	}
	m.Error, m.Reason = bounded(m.Error), bounded(m.Reason)
	m.Version = m.Version[:min(len(m.Version), maxName)]
	return m, nil
}

func bounded(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + " ..."
	}
	return text
}
