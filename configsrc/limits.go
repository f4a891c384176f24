package configsrc

import (
	"fmt"
	"io"
	"math"
)

// Limits bounds what a source may hand out. A field of zero or less is its default.
// Whatever is over a limit is refused whole, never cut.
type Limits struct {
	// Bytes is the size of one document, and of all texts of a content
	// together. Default 4 MiB.
	Bytes int
	// Keys is the number of keys of a content. Default 10,000.
	Keys int
	// KeyBytes is the length of one key. Default 256.
	KeyBytes int
	// ValueBytes is the length of one text. Default 512 KiB: a bundle of
	// certificates fits, and Consul stores no more under one key.
	ValueBytes int
	// Depth is how many sections and lists lie within each other, the value
	// itself included: a.b[0] has depth 3. Default 64.
	Depth int
}

func (l Limits) orDefault() Limits {
	return Limits{
		Bytes:      orDefault(l.Bytes, 4<<20),
		Keys:       orDefault(l.Keys, 10_000),
		KeyBytes:   orDefault(l.KeyBytes, 256),
		ValueBytes: orDefault(l.ValueBytes, 512<<10),
		Depth:      orDefault(l.Depth, 64),
	}
}

func orDefault(limit, standard int) int {
	if limit <= 0 {
		return standard
	}
	return min(limit, math.MaxInt/64) // so that small multiples of it are numbers still
}

// ReadAll reads one document from r to its end. It reads one byte more than
// Bytes at the most; a document over the limit is an [*InvalidError] at origin.
// An error of r is returned as it is.
func (l Limits) ReadAll(r io.Reader, origin Origin) ([]byte, error) {
	limit := l.orDefault().Bytes
	data, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, tooLarge(limit, origin)
	}
	return data, nil
}

func tooLarge(limit int, origin Origin) error {
	return &InvalidError{Problems: []Problem{{
		Origin: origin,
		Reason: fmt.Sprintf("document is larger than the limit of %d bytes", limit),
	}}}
}
