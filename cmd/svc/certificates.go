package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/reload"
	"github.com/hotsvc/svc/server"
	"github.com/hotsvc/svc/server/certs"
)

// The sections that name certificates.
const (
	serverTLS = "server.tls"
	adminTLS  = "admin.tls"
)

// material is the TLS material of a section, or that there is none.
type material struct{ store *certs.Store }

// Close ends the following of files. What is loaded can still be read.
func (m *material) Close() error {
	if m.store == nil {
		return nil
	}
	return m.store.Close()
}

// load is nil where there is no certificate.
func (m *material) load() *certs.Material {
	if m.store == nil {
		return nil
	}
	return m.store.Load()
}

// certificates are the TLS material of the service's listeners and of the
// operator's, built from the config.
type certificates struct {
	manager       *reload.Manager[Config]
	server, admin *reload.Resource[Config, *material]
}

// registerCertificates makes them a part of every revision of m, so that a
// certificate that is no good refuses it. An outdated one is no good unless
// allowOutdated says otherwise.
func registerCertificates(m *reload.Manager[Config], log *slog.Logger, allowOutdated func() bool) certificates {
	return certificates{
		manager: m,
		server: reload.Register(m, serverTLS, func(c *Config) server.TLS { return c.Server.TLS },
			func(ctx context.Context, t server.TLS) (*material, error) {
				return openServerMaterial(ctx, t, certs.Options{AllowOutdated: allowOutdated(), Logger: log})
			}),
		admin: reload.Register(m, adminTLS, func(c *Config) admin.TLS { return c.Admin.TLS },
			func(ctx context.Context, t admin.TLS) (*material, error) {
				return openAdminMaterial(ctx, t, certs.Options{AllowOutdated: allowOutdated(), Logger: log})
			}),
	}
}

// serverMaterial is that of the service's listeners in force, or nil.
func (c certificates) serverMaterial() *certs.Material { return c.of(c.server) }

// adminMaterial is that of the operator's listeners in force, or nil.
func (c certificates) adminMaterial() *certs.Material { return c.of(c.admin) }

// of needs no lease: a store that was closed still has its last material.
func (c certificates) of(r *reload.Resource[Config, *material]) *certs.Material {
	revision := c.manager.Load()
	if revision == nil {
		return nil
	}
	return r.Get(revision).load()
}

func openServerMaterial(ctx context.Context, t server.TLS, o certs.Options) (*material, error) {
	c, mutual, ok := t.Material()
	if !ok {
		return &material{}, nil
	}
	o.Mutual = mutual
	return openMaterial(ctx, serverTLS, c, o)
}

func openAdminMaterial(ctx context.Context, t admin.TLS, o certs.Options) (*material, error) {
	if t.Cert == "" {
		return &material{}, nil
	}
	c, mutual := adminMaterial(t)
	o.Mutual = mutual.Mutual
	return openMaterial(ctx, adminTLS, c, o)
}

// openMaterial opens what a section names. Problems get the section before
// their keys; a file that cannot be had may be there later.
func openMaterial(ctx context.Context, section string, c certs.Config, o certs.Options) (*material, error) {
	if o.Logger != nil {
		o.Logger = o.Logger.With("section", section)
	}
	store, err := certs.Open(ctx, c, o)
	var invalid *configsrc.InvalidError
	var path *fs.PathError
	switch {
	case errors.As(err, &invalid):
		return nil, &configsrc.InvalidError{Problems: withSection(section, invalid.Problems)}
	case errors.As(err, &path):
		return nil, reload.Retryable(fmt.Errorf("%s: %w", section, err))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", section, err)
	}
	return &material{store}, nil
}

// expiries tells the metrics when the certificates in force end.
type expiries struct {
	certificates
	desc *prometheus.Desc
}

func newExpiries(c certificates) *expiries {
	return &expiries{c, prometheus.NewDesc("svc_tls_certificate_expiry_timestamp_seconds",
		"When the certificate in force expires; absent where there is none.", []string{"use"}, nil)}
}

// Describe names the one metric.
func (e *expiries) Describe(ch chan<- *prometheus.Desc) { ch <- e.desc }

// Collect leaves out what has no certificate.
func (e *expiries) Collect(ch chan<- prometheus.Metric) {
	for use, m := range map[string]*certs.Material{"server": e.serverMaterial(), "admin": e.adminMaterial()} {
		if m != nil {
			ch <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, float64(m.NotAfter().Unix()), use)
		}
	}
}
