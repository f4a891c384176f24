package certs_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/internal/testcert"
	"github.com/hotsvc/svc/server/certs"
)

// A certificate is replaced while a connection is open: the connection goes on,
// and the next one sees the new certificate.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir) //nolint:errcheck // an example
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	replace(cert, key, "first")

	ctx := context.Background()
	store, err := certs.Open(ctx, certs.Config{
		Cert: "file:" + cert,
		Key:  configsrc.Secret("file:" + key),
	}, certs.Options{})
	check(err)
	defer store.Close() //nolint:errcheck // an example

	plain, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	check(err)
	ln := tls.NewListener(plain, certs.TLS(store.Load, certs.TLSOptions{}))
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close() //nolint:errcheck // an example
				_, _ = io.Copy(c, c)
			})
		}
	})

	open := dial(ln.Addr().String())
	fmt.Println("open connection:", subject(open))

	replace(cert, key, "second")
	for store.Load().Subject() != "CN=second" {
		time.Sleep(10 * time.Millisecond)
	}

	next := dial(ln.Addr().String())
	fmt.Println("next connection:", subject(next))
	_, err = io.WriteString(open, "still here\n")
	check(err)
	line, err := bufio.NewReader(open).ReadString('\n')
	check(err)
	fmt.Print("open connection: ", line)

	check(open.Close())
	check(next.Close())
	check(ln.Close())
	serving.Wait()
	// Output:
	// open connection: first
	// next connection: second
	// open connection: still here
}

func dial(addr string) *tls.Conn {
	// Who the server is does not matter here.
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	c, err := d.DialContext(context.Background(), "tcp", addr)
	check(err)
	return c.(*tls.Conn)
}

func subject(c *tls.Conn) string { return c.ConnectionState().PeerCertificates[0].Subject.CommonName }

// replace puts a new certificate and its key where they are, as a program that
// renews certificates does.
func replace(certPath, keyPath, name string) {
	cert, key := testcert.PEM(testcert.SelfSigned(name))
	for path, text := range map[string]string{certPath: cert, keyPath: key} {
		check(os.WriteFile(path+".new", []byte(text), 0o600))
		check(os.Rename(path+".new", path))
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
