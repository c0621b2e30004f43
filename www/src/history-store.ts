// Keeps the conversation over a reload of the tab, and only in this tab.
import type { ChatMessage } from "emberglass";

const STORAGE_KEY = "emberglass.conversation";

export function loadHistory(): ChatMessage[] {
  try {
    const stored: unknown = JSON.parse(sessionStorage.getItem(STORAGE_KEY) ?? "[]");
    return Array.isArray(stored) ? stored.filter(isTurn) : [];
  } catch {
    return [];
  }
}

export function saveHistory(messages: readonly ChatMessage[]): void {
  try {
    sessionStorage.setItem(STORAGE_KEY, JSON.stringify(messages.filter(isTurn)));
  } catch {
    // Full or forbidden: the conversation then lasts as long as the page.
  }
}

/** A message of the conversation proper; the system prompt is a setting. */
function isTurn(value: unknown): value is ChatMessage {
  const { role, content } = (value ?? {}) as Record<string, unknown>;
  return (role === "user" || role === "assistant") && typeof content === "string";
}
