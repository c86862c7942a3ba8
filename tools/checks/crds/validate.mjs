// Reads a JSON list of objects on stdin and checks each against the schema of its custom resource.
import { readFileSync } from "node:fs";

const PACKAGES = {
  "keda.sh/v1alpha1": "@kubernetes-models/keda",
  "cert-manager.io/v1": "@kubernetes-models/cert-manager",
};

for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const { apiVersion, kind, metadata } = object;
  const module = await import(`${PACKAGES[apiVersion]}/${apiVersion}/${kind}`);
  try {
    new module[kind](object).validate();
  } catch (error) {
    throw new Error(`${kind} ${metadata.name}: ${error.message}`);
  }
  console.log(`${kind} ${metadata.name}`);
}
