"use strict";

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  tryItOutEnabled: true,
  // The key stays in this tab until it is reloaded.
  persistAuthorization: false,
});
