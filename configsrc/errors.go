package configsrc

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of error a source tells apart. Test with errors.Is.
var (
	// ErrNotFound: the backend answered that there is no such configuration.
	ErrNotFound = errors.New("not found")
	// ErrDenied: the backend, or the file system, refused this reader.
	ErrDenied = errors.New("access denied")
	// ErrInvalid: there is content, and it is no configuration: it does not
	// parse, or breaks a limit or the grammar of keys.
	ErrInvalid = errors.New("invalid content")
)

// Error is what a [Source] returns when it has no snapshot to return.
// Its message names backend, operation and address, and no value.
type Error struct {
	Backend string // "file", "consul", ...
	Op      string // what was tried: "read", "list keys"
	Address string // where: a path or URL, without credentials
	// Kind is ErrNotFound, ErrDenied, ErrInvalid, or nil for all else
	// (unreachable, time-out, a server's own failure).
	Kind error
	// Version names the state that the error describes. It is zero where the
	// backend told nothing about its state. See [Source].
	Version Version
	Err     error // the cause; may be nil when Kind says it all
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s %s", e.Backend, e.Op, e.Address)
	if e.Kind != nil && !errors.Is(e.Err, e.Kind) {
		fmt.Fprintf(&b, ": %v", e.Kind)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap gives errors.Is the kind and the cause.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Kind != nil {
		errs = append(errs, e.Kind)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}

// Problem is one thing wrong with a content, in words a person can act on.
type Problem struct {
	Key    string `json:"key,omitempty"`
	Origin Origin `json:"origin,omitzero"`
	// Reason says what is wrong and, where there is one, the way out. It never
	// holds a value.
	Reason string `json:"reason"`
}

// String is "origin: key: reason", leaving out what is not known.
func (p Problem) String() string {
	s := p.Reason
	if p.Key != "" {
		s = p.Key + ": " + s
	}
	if o := p.Origin.String(); o != "" {
		s = o + ": " + s
	}
	return s
}

// InvalidError is all that is wrong with a content, at once. It is ErrInvalid.
type InvalidError struct {
	Problems []Problem // at least one
}

// Error joins the problems with "; ".
func (e *InvalidError) Error() string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = p.String()
	}
	return strings.Join(parts, "; ")
}

// Is makes errors.Is(err, ErrInvalid) true.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }
