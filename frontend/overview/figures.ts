// The figures of `audit.statistics.overview`.

export interface Figures {
  requests: number;
  errors: number;
  refused: number;
  running: number;
  ttft_p50_ms: number | null;
  ttft_p95_ms: number | null;
  itl_p50_ms: number | null;
  completion_tokens: number;
  tokens_per_s: number;
}

export interface Recent {
  id: string;
  time: string;
  user: string;
  channel_label: string;
  model: string;
  state: { tone: string; icon: string; label: string };
  ttft_ms: number | null;
  tokens: number | null;
  tokens_per_s: number | null;
}

export interface Overview {
  bucket_seconds: number;
  buckets: (Figures & { start: string })[];
  totals: Figures;
  recent: Recent[];
}
