package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Client calls a running service's admin API.
type Client struct {
	http http.Client
	base string
}

// NewClient makes a client for "unix:PATH", "HOST:PORT" or an http URL. It does
// not connect yet.
func NewClient(address string) *Client {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		var d net.Dialer
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", path)
		}}
		return &Client{http: http.Client{Transport: transport}, base: "http://admin"}
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	return &Client{http: http.Client{Transport: &http.Transport{}}, base: strings.TrimSuffix(address, "/")}
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// Get decodes the answer to a GET into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.call(ctx, http.MethodGet, path, nil, out)
}

// Post sends body, which may be nil, and decodes the answer into out. An error
// answer of the service is a *Problem; what else goes wrong is not.
func (c *Client) Post(ctx context.Context, path string, query url.Values, body []byte, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.call(ctx, http.MethodPost, path, body, out)
}

func (c *Client) call(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("call admin API: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("call admin API: %w", err)
	}
	defer c.http.CloseIdleConnections()
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read answer of admin API: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		p := &Problem{Title: resp.Status, Status: resp.StatusCode}
		_ = json.Unmarshal(data, p) // what is not JSON leaves the status
		return p
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("read answer of admin API: %w", err)
	}
	return nil
}
