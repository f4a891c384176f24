//go:build !unix

package server

import (
	"errors"
	"net"

	"github.com/hotsvc/svc/server/liveconn"
)

func writeBatch(*net.UnixConn, []byte, []*liveconn.Conn) error { return errors.ErrUnsupported }

type batchReader struct{}

func newBatchReader(*net.UnixConn) *batchReader { return &batchReader{} }

func (*batchReader) next() (batch, []net.Conn, error) { return batch{}, nil, errors.ErrUnsupported }
