package rivals

import (
	"fmt"
	"strings"
	"time"
)

// setting is the key that every reader reads, in the notation all libraries share.
const setting = "server.timeout.request"

// document is a configuration text and the value of setting in it.
type document struct {
	text    []byte
	timeout time.Duration
}

// section is how many keys of a document lie side by side, as in what people
// write. All in one section is measured apart: the YAML package under the
// others compares each key of a section with every other one.
const section = 100

// newDocument returns a YAML text of that many keys, in sections of at most
// side. No value of it is the same in a document with another timeout.
func newDocument(keys, side int, timeout time.Duration) document {
	var b strings.Builder
	fmt.Fprintf(&b, "server:\n  timeout:\n    request: %v\n", timeout)
	b.WriteString("public:\n")
	for i := range keys - 1 {
		if i%side == 0 {
			fmt.Fprintf(&b, "  section%03d:\n", i/side)
		}
		fmt.Fprintf(&b, "    key%05d: value %d beside %v\n", i%side, i, timeout)
	}
	return document{text: []byte(b.String()), timeout: timeout}
}
