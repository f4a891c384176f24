package load

import "errors"

// Kind is a kind of failure.
type Kind string

// The kinds. Each counts as one failed request, but for Unasked and those of
// AnsweredTwice that came when no request was under way: these count beside the
// requests.
const (
	Connect       Kind = "connect"        // no connection, or no TLS on it
	Send          Kind = "send"           // the request could not be written
	Receive       Kind = "receive"        // the connection ended in place of the answer, or in it
	Timeout       Kind = "timeout"        // no answer in time
	Status        Kind = "status"         // an answer other than 200
	Mangled       Kind = "mangled"        // an answer to something else
	Unasked       Kind = "unasked"        // bytes without a request
	AnsweredTwice Kind = "answered twice" // the answer before, again
	GoAway        Kind = "goaway"         // HTTP/2: the server said that it has not taken the request, after it was sent
)

// failure is why a request failed.
type failure struct {
	kind Kind
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// errNotSent: the server had ended the connection before, and nothing was sent.
var errNotSent = errors.New("the server has ended the connection")
