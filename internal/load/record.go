package load

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Record is the file in which all processes of a service write down the requests
// that they execute. Each is one write at the end of the file, which the kernel
// keeps apart from those of other processes, and keeps when the process is
// killed. A record is for one [Load]. Its methods may be called from many
// goroutines.
type Record struct{ f *os.File }

// recordSize is the size of an entry, an id with the most significant byte first.
const recordSize = 8

// OpenRecord opens a record for writing at its end, and makes it if it is not there.
func OpenRecord(path string) (*Record, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600) //nolint:gosec // the caller's own file
	if err != nil {
		return nil, fmt.Errorf("open the record: %w", err)
	}
	return &Record{f}, nil
}

// Add writes down that the request with that id is being executed.
func (r *Record) Add(id uint64) error {
	if _, err := r.f.Write(binary.BigEndian.AppendUint64(make([]byte, 0, recordSize), id)); err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	return nil
}

// Close closes the file.
func (r *Record) Close() error { return r.f.Close() }

// ReadRecord calls f with each id of a record, in the order in which they were
// written, one that was executed twice with both.
func ReadRecord(path string, f func(id uint64)) (err error) {
	file, err := os.Open(path) //nolint:gosec // the caller's own file
	if err != nil {
		return fmt.Errorf("read the record: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r := bufio.NewReaderSize(file, 1<<16)
	var entry [recordSize]byte
	for {
		if _, err := io.ReadFull(r, entry[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the record: %w", err) // io.ErrUnexpectedEOF: half an entry
		}
		f(binary.BigEndian.Uint64(entry[:]))
	}
}

// ids is a set of request ids, which are dense from 1. The zero value is empty.
type ids struct{ words []uint64 }

// add adds an id, and reports whether it was new.
func (s *ids) add(id uint64) bool {
	word, bit := id/64, uint64(1)<<(id%64)
	if n := uint64(len(s.words)); word >= n {
		s.words = append(s.words, make([]uint64, word-n+1)...)
	}
	isNew := s.words[word]&bit == 0
	s.words[word] |= bit
	return isNew
}

func (s *ids) has(id uint64) bool {
	word := id / 64
	return word < uint64(len(s.words)) && s.words[word]&(1<<(id%64)) != 0
}
