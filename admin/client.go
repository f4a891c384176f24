package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/hotsvc/svc/configsrc"
)

// Client calls a running service's admin API.
type Client struct {
	http  http.Client
	base  string
	token configsrc.Secret
}

// ClientOptions are what a client shows to a service on TCP, and trusts. The
// zero value shows nothing and trusts the CAs of the system.
type ClientOptions struct {
	// Token is the service's admin.token.
	Token configsrc.Secret
	// TLS has the CAs to trust and the client certificate. It is for https
	// addresses alone.
	TLS *tls.Config
}

// NewClient makes a client for "unix:PATH", "HOST:PORT" (plain HTTP), or a URL
// of http or https. It does not connect yet.
//
// A unix socket asks for no credentials and is shown none. A token goes in
// clear text to a loopback address only, and nothing goes anywhere else than to
// address: redirects are not followed, and no proxy is used.
func NewClient(address string, o ClientOptions) (*Client, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		var d net.Dialer
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", path)
		}}
		return newClient(transport, "http://admin", ""), nil
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	switch {
	case err != nil, u.Hostname() == "", u.RawQuery != "", u.Fragment != "", u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("admin address: want unix:PATH, HOST:PORT, or an http or https URL")
	case u.User != nil:
		return nil, errors.New("admin address: a URL is no place for credentials")
	case u.Scheme == "http" && o.TLS != nil:
		return nil, errors.New("admin address: a CA or a client certificate is of use with https:// only")
	case u.Scheme == "http" && o.Token != "" && !isLoopback(u.Hostname()):
		return nil, errors.New("admin address: the token would cross the network in clear text: use https://, or a tunnel to a loopback address")
	}
	transport := &http.Transport{TLSClientConfig: o.TLS}
	return newClient(transport, strings.TrimSuffix(address, "/"), o.Token), nil
}

func newClient(transport *http.Transport, base string, token configsrc.Secret) *Client {
	return &Client{
		http: http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		base: base, token: token,
	}
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
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
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+string(c.token))
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
		p := &Problem{Title: resp.Status}
		_ = json.Unmarshal(data, p) // what is not JSON leaves the status
		p.Status = resp.StatusCode  // whatever the body says
		return p
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("read answer of admin API: %w", err)
	}
	return nil
}
