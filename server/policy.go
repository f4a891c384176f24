package server

import (
	"github.com/rs/cors"
)

// policy is what is made of a configuration for its requests. Nothing of it can
// fail: the configuration was validated.
type policy struct {
	config  *Config
	cors    *cors.Cors
	proxies proxies
}

// policyOf returns the policy of a request's configuration. It is made once a
// configuration, unless requests under two of them come in turn.
func (s *Server) policyOf(c *Config) *policy {
	if p := s.policy.Load(); p != nil && p.config == c {
		return p
	}
	p := &policy{config: c, cors: newCORS(&c.CORS), proxies: newProxies(c.TrustedProxies)}
	s.policy.Store(p)
	return p
}
