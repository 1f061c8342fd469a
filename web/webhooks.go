package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/pronto-desk/pronto/tickets/outbox"
)

// webhooksAPI is who else is told of what happens. The messages themselves and
// their delivery are tickets/outbox.
func (s *Server) webhooksAPI(a *operations) {
	provide(a, operation{at: "GET /webhooks", id: "listWebhooks", does: "Who is told of what, and whether it arrives.", by: supervisors, scope: Manage},
		func(ctx context.Context, _ User, _ *nothing) (list[outbox.Webhook], error) {
			return listed(s.Webhooks.List(ctx))
		})
	provide(a, operation{
		at: "POST /webhooks", id: "addWebhook", by: supervisors, scope: Manage, secret: true,
		does: "Registers a receiver. Its secret is told once; messages are signed as standardwebhooks.com says, and come at least once: webhook-id tells doubles.",
	}, s.postWebhook)
	provide(a, operation{at: "POST /webhooks/{id}/enable", id: "enableWebhook", does: "Sends again to a receiver that was disabled.", by: supervisors, scope: Manage},
		func(ctx context.Context, me User, in *IDPath) (nothing, error) {
			return nothing{}, webhookError(s.Webhooks.Enable(ctx, me.ID, in.ID))
		})
	provide(a, operation{at: "POST /webhooks/{id}/disable", id: "disableWebhook", does: "Sends no more to a receiver, until it is enabled.", by: supervisors, scope: Manage},
		func(ctx context.Context, me User, in *IDPath) (nothing, error) {
			return nothing{}, webhookError(s.Webhooks.Disable(ctx, me.ID, in.ID))
		})
	provide(a, operation{at: "DELETE /webhooks/{id}", id: "removeWebhook", does: "Forgets a receiver; what waits for it is not sent.", by: supervisors, scope: Manage},
		func(ctx context.Context, me User, in *IDPath) (nothing, error) {
			return nothing{}, webhookError(s.Webhooks.Remove(ctx, me.ID, in.ID))
		})
}

type webhookInput struct {
	Body struct {
		URL    string   `json:"url" minLength:"1" maxLength:"2000" doc:"https, and a public address unless the configuration allows others."`
		Events []string `json:"events" minItems:"1" maxItems:"20" enum:"callback.booked,contact.ended,message.recorded,ticket.closed,ticket.opened,ticket.reopened,ticket.taken"`
	}
}

type newWebhook struct {
	outbox.Webhook
	Secret string `json:"secret" doc:"whsec_…: it is not shown again."`
}

func (s *Server) postWebhook(ctx context.Context, me User, in *webhookInput) (*newWebhook, error) {
	hook, secret, err := s.Webhooks.Add(ctx, me.ID, in.Body.URL, in.Body.Events)
	if err != nil {
		return nil, webhookError(err)
	}
	return &newWebhook{hook, secret}, nil
}

// webhookError is an error of outbox as its reader needs it.
func webhookError(err error) error {
	switch {
	case errors.Is(err, outbox.ErrNotFound):
		return errNotFound
	case errors.Is(err, outbox.ErrURL):
		return refused("url", "Un indirizzo pubblico, https://… senza utente né frammento.")
	case errors.Is(err, outbox.ErrEvent):
		return refused("events", fmt.Sprintf("Uno o più di: %s.", strings.Join(outbox.Events(), ", ")))
	case errors.Is(err, outbox.ErrMany):
		return problemf(http.StatusConflict, "I webhook sono già troppi: rimuovine uno.")
	}
	return err
}
